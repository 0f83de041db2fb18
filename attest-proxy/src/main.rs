//! attest-proxy
fn main() {}
