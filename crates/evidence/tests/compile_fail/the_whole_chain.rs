//! The one way through: it compiles, so that the refusals beside it fail for their own reason.
use evidence::{AttestationKey, Attested, Counters, PcrPolicy, Quote, Rejected};

#[allow(dead_code)]
fn walk(
    quote: &[u8],
    signature: &[u8],
    pcrs: &[u8],
    ak: &AttestationKey,
    policy: &PcrPolicy,
    last: &Counters,
) -> Result<Attested, Rejected> {
    let quote = Quote::parse(quote)?;
    let signed = quote.signed_by(ak, signature)?;
    let fresh = signed.fresh(&[0; 32], Some(last))?;
    let matched = fresh.pcrs_match(policy, pcrs)?;
    Ok(matched.attested())
}

fn main() {}
