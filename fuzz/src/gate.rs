//! What a client's head and a server's answer are read by, before and beside hyper.
//!
//! Each module is the proxy's own file; nothing of the proxy that serves is linked.

#[path = "../../attest-proxy/src/meter/count.rs"]
pub mod count;
#[path = "../../attest-proxy/src/head.rs"]
pub mod head;
#[path = "../../attest-proxy/src/routes.rs"]
pub mod routes;
pub mod wire;

use count::{Counter, Framing};

/// A client's head: what is wrong with its framing does not depend on where the reads split, and what passes all checks
/// has one host, one meaning of its length, and a path that is on the list literally or is refused.
pub fn request_head(data: &[u8]) {
    let framing = wire::framing(data);
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(_)) = parsed.parse(data) else {
        return;
    };
    let (Some(method), Some(path)) = (parsed.method, parsed.path) else {
        return;
    };
    let mut builder = http::Request::builder().method(method).uri(path);
    for field in parsed.headers.iter() {
        builder = builder.header(field.name, field.value);
    }
    let Ok(request) = builder.body(()) else { return };
    let (parts, ()) = request.into_parts();
    let Ok(head) = head::Head::check(&parts) else {
        return;
    };
    let count = |name: &str| parts.headers.get_all(name).iter().count();
    assert_eq!(count("host"), 1);
    assert_eq!(count("upgrade") + count("trailer") + count("content-encoding"), 0);
    if framing {
        assert!(
            count("content-length") + count("transfer-encoding") <= 1,
            "two lengths passed"
        );
    }
    if let Ok(routes::Route::Forward(to)) = routes::find(head.method, head.path) {
        assert_eq!(to.path, head.path, "another path than was asked for");
    }
}

/// A server's answer: however it is cut, the same is counted.
pub fn stream_count(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let framing = match kind % 3 {
        0 => Framing::Whole,
        1 => Framing::Lines,
        _ => Framing::Events,
    };
    let mut whole = Counter::new(framing);
    whole.take(data);
    for size in [1, 2, usize::from(kind / 3).max(3)] {
        let mut pieces = Counter::new(framing);
        data.chunks(size).for_each(|piece| pieces.take(piece));
        assert_eq!(pieces.usage(), whole.usage(), "in pieces of {size}");
    }
    let most = u64::try_from(data.len() / 2).unwrap_or(u64::MAX);
    assert!(whole.usage().objects <= most, "more objects than brackets");
}
