//! An attestation key passed its checks.
use domain::TpmName;
use evidence::AttestationKey;

fn make(qualified_name: TpmName) -> AttestationKey {
    AttestationKey { qualified_name }
}

fn main() {}
