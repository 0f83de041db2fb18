//! An endorsement key is the template's.
use domain::TpmPublic;
use evidence::EndorsementKey;

fn make(public: TpmPublic) -> EndorsementKey {
    EndorsementKey { public }
}

fn main() {}
