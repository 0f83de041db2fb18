//! The watch over the framing, whole and byte by byte.

#[path = "../../../attest-proxy/src/wire/vet.rs"]
mod vet;

use vet::Vet;

/// Whether the framing is in order so far.
pub fn framing(data: &[u8]) -> bool {
    let mut whole = Vet::new();
    let result = whole.feed(data).map(|()| whole.phase());
    let mut single = Vet::new();
    let split = data
        .chunks(1)
        .try_for_each(|b| single.feed(b))
        .map(|()| single.phase());
    assert_eq!(result, split, "where the reads split must not matter");
    result.is_ok()
}
