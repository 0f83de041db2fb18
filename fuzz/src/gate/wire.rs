//! The watch over the framing, whole and byte by byte.

#[path = "../../../attest-proxy/src/wire/chunk.rs"]
mod chunk;
#[path = "../../../attest-proxy/src/wire/line.rs"]
mod line;
#[path = "../../../attest-proxy/src/wire/vet.rs"]
mod vet;

use vet::Vet;

/// Whether the framing is in order so far.
pub fn framing(data: &[u8]) -> bool {
    let mut whole = Vet::new();
    let result = messages(&mut whole, data).map(|()| whole.phase());
    let mut single = Vet::new();
    let split = data
        .chunks(1)
        .try_for_each(|b| single.feed(b).map(|taken| assert_eq!(taken, 1)))
        .map(|()| single.phase());
    assert_eq!(result, split, "where the reads split must not matter");
    assert_eq!((whole.heads(), whole.ended()), (single.heads(), single.ended()));
    result.is_ok()
}

/// Message by message, as it is fed on a connection.
fn messages(vet: &mut Vet, mut data: &[u8]) -> Result<(), vet::Violation> {
    while !data.is_empty() {
        let before = vet.ended();
        let taken = vet.feed(data)?;
        let rest = data.get(taken..).unwrap_or_default();
        assert!(taken > 0 && (rest.is_empty() || vet.ended() == before.wrapping_add(1)));
        data = rest;
    }
    Ok(())
}
