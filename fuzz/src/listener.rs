//! What stands before a client's HTTP.

use crate::proxy_header_source::{Progress, parse};

/// A PROXY header: who reads no more than it needs reads the header, to its end, and nothing behind it.
pub fn proxy_header(data: &[u8]) {
    let whole = parse(data);
    let mut have = 0;
    let stepped = loop {
        match parse(data.get(..have).unwrap_or(data)) {
            Ok(Progress::Needs(total)) => {
                assert!(total > have, "it needs no more than it has");
                if total > data.len() {
                    break None;
                }
                have = total;
            }
            Ok(Progress::Done(announced, len)) => {
                assert_eq!(len, have, "bytes behind the header were read");
                break Some((announced, len));
            }
            Err(_) => break None,
        }
    };
    if let Ok(Progress::Done(announced, len)) = whole {
        assert!(len <= data.len());
        assert_eq!(stepped, Some((announced, len)));
    }
}
