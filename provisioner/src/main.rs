//! provisioner
fn main() {}
