//! What parses encodes to the same bytes, no input panics, and freshness is an order.

use domain::{HashAlg, PcrIndex, PcrSelection, TpmPublic};
use evidence::{
    Continuity, Counters, EndorsementKey, Quote,
    wire::{
        Attest, Attested, Attributes, ClockInfo, Curve, Parameters, PcrSelections, Public, Scheme, Signature,
        SignatureAlg, Symmetric,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=max)
}

fn hash() -> impl Strategy<Value = HashAlg> {
    select(vec![HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384])
}

fn selections() -> impl Strategy<Value = Vec<u8>> {
    vec((hash(), vec(any::<u8>(), 3..8)), 0..5).prop_map(|entries| {
        let mut out = u32::try_from(entries.len()).unwrap().to_be_bytes().to_vec();
        for (bank, bitmap) in entries {
            out.extend(bank.tpm_id().to_be_bytes());
            out.push(u8::try_from(bitmap.len()).unwrap());
            out.extend(bitmap);
        }
        out
    })
}

prop_compose! {
    fn counters()(reset_count in 0..3_u32, restart_count in 0..3_u32, clock in 0..3_u64, safe: bool) -> Counters {
        Counters { reset_count, restart_count, clock, safe }
    }
}

/// Like the real thing up to one changed, missing or additional stretch.
fn nearly(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = good.len();
    (0..=len, 0..=len, bytes(8)).prop_map(move |(a, b, between)| {
        let (start, end) = (a.min(b), a.max(b));
        [&good[..start], &between, &good[end..]].concat()
    })
}

fn some_public() -> Vec<u8> {
    crate::forge::area(
        crate::forge::AK_ATTRIBUTES,
        crate::forge::ecdsa(Curve::P256, Some(HashAlg::Sha256), &[1; 32], &[2; 32]),
    )
    .as_bytes()
    .to_vec()
}

fn some_quote() -> Vec<u8> {
    Attest {
        qualified_signer: &[1; 34],
        extra_data: &[2; 32],
        clock: ClockInfo {
            clock: 3,
            reset_count: 4,
            restart_count: 5,
            safe: false,
        },
        firmware_version: 6,
        attested: Attested::Quote {
            selection: PcrSelections::parse(&[0, 0, 0, 1, 0, 0x0b, 3, 0x80, 0, 0]).unwrap(),
            digest: &[7; 32],
        },
    }
    .encode()
}

proptest! {
    #[test]
    fn statements_round_trip(
        kind in 0..3,
        head in (bytes(66), bytes(66)),
        body in (bytes(64), bytes(64), selections()),
        (clock, reset_count, restart_count, safe) in any::<(u64, u32, u32, bool)>(),
        firmware_version: u64,
    ) {
        let (first, second, list) = &body;
        let attested = match kind {
            0 => Attested::Quote { selection: PcrSelections::parse(list).unwrap(), digest: first },
            1 => Attested::Certify { name: first, qualified_name: second },
            _ => Attested::Creation { name: first, creation_hash: second },
        };
        let attest = Attest {
            qualified_signer: &head.0,
            extra_data: &head.1,
            clock: ClockInfo { clock, reset_count, restart_count, safe },
            firmware_version,
            attested,
        };
        let encoded = attest.encode();
        let parsed = Attest::parse(&encoded).unwrap();
        prop_assert_eq!(parsed, attest);
        prop_assert_eq!(parsed.encode(), encoded);
    }

    #[test]
    fn signatures_round_trip(
        alg in select(vec![SignatureAlg::Rsassa, SignatureAlg::Rsapss, SignatureAlg::Ecdsa]),
        hash in hash(),
        rsa in vec(any::<u8>(), 1..=512),
        (r, s) in (vec(any::<u8>(), 1..=66), vec(any::<u8>(), 1..=66)),
    ) {
        let signature = match alg {
            SignatureAlg::Ecdsa => Signature::Ecdsa { hash, r: &r, s: &s },
            _ => Signature::Rsa { scheme: Scheme { alg, hash }, bytes: &rsa },
        };
        let encoded = signature.encode();
        let parsed = Signature::parse(&encoded).unwrap();
        prop_assert_eq!(parsed, signature);
        prop_assert_eq!(parsed.encode(), encoded);
    }

    #[test]
    fn public_areas_round_trip(
        is_rsa: bool,
        (attributes, key_bits, exponent, aes) in any::<(u32, u16, u32, Option<u16>)>(),
        scheme_hash in option::of(hash()),
        pss: bool,
        policy in any::<Option<[u8; 32]>>(),
        modulus in bytes(512),
        (x, y) in (bytes(66), bytes(66)),
    ) {
        let symmetric = aes.map_or(Symmetric::Null, |key_bits| Symmetric::AesCfb { key_bits });
        let with = |alg| scheme_hash.map(|hash| Scheme { alg, hash });
        let parameters = if is_rsa {
            let alg = if pss { SignatureAlg::Rsapss } else { SignatureAlg::Rsassa };
            Parameters::Rsa { symmetric, scheme: with(alg), key_bits, exponent, modulus: &modulus }
        } else {
            let curve = if pss { Curve::P256 } else { Curve::P384 };
            Parameters::Ecc { symmetric, scheme: with(SignatureAlg::Ecdsa), curve, x: &x, y: &y }
        };
        let auth_policy = policy.as_ref().map_or(&[][..], |p| p);
        let public = Public {
            name_alg: HashAlg::Sha256,
            attributes: Attributes(attributes),
            auth_policy,
            parameters,
        };
        let encoded = public.encode();
        let parsed = Public::parse(&encoded).unwrap();
        prop_assert_eq!(parsed, public);
        prop_assert_eq!(parsed.encode(), encoded);
    }

    #[test]
    fn selections_survive_the_wire(bank in hash(), bits in 1_u32..1 << 24) {
        let chosen = (0..24).filter(|i| bits >> i & 1 == 1).map(|i| PcrIndex::try_from(i).unwrap());
        let selection = PcrSelection::new(bank, chosen).unwrap();
        let encoded = PcrSelections::encode_single(&selection);
        let parsed = PcrSelections::parse(&encoded).unwrap();
        prop_assert_eq!(parsed.single(), Ok(selection));
        prop_assert_eq!(parsed.to_string(), selection.to_string());
    }

    /// Whatever comes: either it is refused, or it is exactly what would be written.
    #[test]
    fn what_is_read_is_what_would_be_written(
        quote in nearly(some_quote()),
        public in nearly(some_public()),
        list in nearly(vec![0, 0, 0, 2, 0, 0x0b, 3, 0x80, 0, 0, 0, 4, 3, 1, 0, 0]),
        noise in bytes(200),
    ) {
        for input in [&quote, &public, &list, &noise] {
            if let Ok(parsed) = Attest::parse(input) {
                prop_assert_eq!(&parsed.encode(), input);
            }
            if let Ok(parsed) = Public::parse(input) {
                prop_assert_eq!(&parsed.encode(), input);
            }
            if let Ok(parsed) = Signature::parse(input) {
                prop_assert_eq!(&parsed.encode(), input);
            }
            if let Ok(parsed) = PcrSelections::parse(input) {
                let mut out = Vec::new();
                parsed.encode(&mut out);
                prop_assert_eq!(&out, input);
                prop_assert!(!parsed.to_string().is_empty());
            }
            prop_assert_eq!(Quote::parse(input).is_ok(), matches!(
                Attest::parse(input),
                Ok(Attest { attested: Attested::Quote { .. }, .. })
            ));
        }
    }

    #[test]
    fn no_noise_is_an_endorsement_key(noise in vec(any::<u8>(), 1..400)) {
        prop_assert!(EndorsementKey::new(&TpmPublic::try_from(noise).unwrap()).is_err());
    }

    /// Two quotes in one order cannot be accepted in the other one too.
    #[test]
    fn freshness_never_goes_both_ways(a in counters(), b in counters()) {
        prop_assert!(a.follow(Some(&b)).is_err() || b.follow(Some(&a)).is_err());
        prop_assert!(a.follow(Some(&a)).is_err());
        prop_assert_eq!(a.follow(None), Ok(Continuity::First));
    }
}
