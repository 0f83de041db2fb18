//! Properties of all records: what is written is read, and nothing more than that is.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use domain::{
    CertificateDigest, CertificateKeyDigest, EkDigest, Endpoint, HashAlg, Limits, OptionRules, Part,
    PcrIndex, PcrValue, PskDigest, TpmName, TpmPublic, UnixTime, VolumeKeyDigest,
    usage::{KeepAliveRange, REQUESTS_PER_MINUTE_MAX, STREAMS_MAX, TOKENS_PER_DAY_MAX},
};
use evidence::{DeclaredPolicy, GoldenSet, Mix};
use proptest::{collection::btree_map, collection::vec, option, prelude::*, sample};
use serde_json::Value;

use super::*;

fn digest<T: std::fmt::Debug>(make: fn([u8; 32]) -> T) -> impl Strategy<Value = T> {
    any::<[u8; 32]>().prop_map(make)
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "[a-z0-9-]{1,63}".prop_map(|text| text.parse().unwrap())
}

fn bytes<T: TryFrom<Vec<u8>, Error: std::fmt::Debug> + std::fmt::Debug>(
    max: usize,
) -> impl Strategy<Value = T> {
    vec(any::<u8>(), 1..=max).prop_map(|bytes| bytes.try_into().unwrap())
}

fn time() -> impl Strategy<Value = UnixTime> {
    any::<u64>().prop_map(UnixTime::from_secs)
}

prop_compose! {
    fn tpm()(
        ek in digest(EkDigest::from_bytes),
        ek_certificate in option::of(digest(CertificateDigest::from_bytes)),
        root in option::of(digest(CertificateDigest::from_bytes)),
        ek_trust in prop_oneof![Just(EkTrust::FirstUse), Just(EkTrust::Allowed), Just(EkTrust::Chain)],
        ak_public in bytes::<TpmPublic>(1024),
        ak_qualified_name in bytes::<TpmName>(66),
        manufacturer in "[ -~]{0,128}",
        firmware_version in any::<u64>(),
    ) -> TpmIdentity {
        let ek_certified = root.map(|root| CertifiedTpm {
            root,
            maker: Some("IFX".to_owned()),
            model: None,
            firmware: Some(manufacturer.clone()),
        });
        TpmIdentity { ek, ek_certificate, ek_certified, ek_trust, ak_public, ak_qualified_name, manufacturer, firmware_version }
    }
}

prop_compose! {
    fn device()(
        device in name(), policy in name(), profile in name(),
        state in prop_oneof![Just(DeviceState::Active), Just(DeviceState::Suspended), Just(DeviceState::Retired)],
        current in digest(PskDigest::from_bytes),
        previous in option::of((digest(PskDigest::from_bytes), time())),
        tpm in option::of(tpm()),
        measured_boot in any::<bool>(),
        (volume_key, client_certificate) in
            (option::of(digest(VolumeKeyDigest::from_bytes)), option::of(digest(CertificateKeyDigest::from_bytes))),
        (wireguard, generation, enrolled_at) in (option::of("[ -~]{0,128}"), any::<u64>(), time()),
    ) -> DeviceRecord {
        let previous = previous.map(|(digest, until)| PreviousPsk { digest, until });
        let psk = PskSlots { current, previous };
        DeviceRecord {
            version: Version1, device, state, policy, profile, psk, client_certificate, tpm, measured_boot, volume_key, wireguard,
            generation, enrolled_at,
        }
    }
}

/// Exact values, and beside them any of the other parts.
fn evidence() -> impl Strategy<Value = DeclaredPolicy> {
    let banks = prop_oneof![Just(HashAlg::Sha1), Just(HashAlg::Sha256), Just(HashAlg::Sha384)];
    let exact = btree_map(0_u64..8, any::<[u8; 48]>(), 1..8);
    let golden = btree_map("[a-z0-9.-]{1,63}", (any::<[u8; 48]>(), option::of(time())), 0..4);
    (banks, exact, golden, any::<bool>(), any::<bool>()).prop_map(|(bank, exact, golden, statement, log)| {
        let value = |v: [u8; 48]| PcrValue::new(bank, &v[..bank.digest_len()]).unwrap();
        let index = |i: u64| PcrIndex::try_from(i).unwrap();
        let set = |(name, (v, until)): (String, ([u8; 48], Option<UnixTime>))| GoldenSet {
            name: name.parse().unwrap(),
            until,
            values: BTreeMap::from([(index(9), value(v))]),
        };
        let json = r#"{"bank":"sha256","statement":{"keys":["KEY"],"profile":"p","least_release":1,"pcrs":[11]},
            "log":{"keys":{"db":["DIGEST"]},"command_line":["**"],"replays":[10]}}"#;
        let key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";
        let more: DeclaredPolicy =
            serde_json::from_str(&json.replace("KEY", key).replace("DIGEST", &"ab".repeat(32))).unwrap();
        let parts = Mix {
            exact: exact.into_iter().map(|(i, v)| (index(i), value(v))).collect(),
            golden: golden.into_iter().map(set).collect(),
            golden_events: BTreeMap::new(),
            statement: more.parts().statement.clone().filter(|_| statement),
            log: more.parts().log.clone().filter(|_| log),
        };
        DeclaredPolicy::new(bank, parts, false).unwrap()
    })
}

fn objects(value: &Value) -> usize {
    let Value::Object(fields) = value else { return 0 };
    1 + fields.values().map(objects).sum::<usize>()
}

prop_compose! {
    fn options()(
        keep_alive in option::of((1..1000_u32, 0..1000_u32)),
        max_num_ctx in option::of(any::<NonZeroU32>()),
        max_num_predict in option::of(any::<NonZeroU32>()),
        refuse in sample::subsequence(Part::ALL, 0..=Part::ALL.len()),
    ) -> OptionRules {
        let range = keep_alive.map(|(min, more)| {
            KeepAliveRange::new(NonZeroU32::new(min), NonZeroU32::new(min + more)).unwrap()
        });
        OptionRules {
            keep_alive: range.unwrap_or_default(),
            max_num_ctx,
            max_num_predict,
            refuse: refuse.into_iter().collect(),
        }
    }
}

prop_compose! {
    fn limits()(
        requests in option::of(1..=REQUESTS_PER_MINUTE_MAX),
        streams in option::of(1..=STREAMS_MAX),
        prompt in option::of(1..=TOKENS_PER_DAY_MAX),
        output in option::of(1..=TOKENS_PER_DAY_MAX),
    ) -> Limits {
        Limits {
            requests_per_minute: requests.map(|n| n.try_into().unwrap()),
            streams: streams.map(|n| n.try_into().unwrap()),
            prompt_tokens_per_day: prompt.map(|n| n.try_into().unwrap()),
            output_tokens_per_day: output.map(|n| n.try_into().unwrap()),
        }
    }
}

prop_compose! {
    fn policy()(
        revision in any::<u64>(),
        models in vec("[!-~]{1,40}".prop_map(|text| text.parse().unwrap()), 0..20),
        endpoints in option::of(sample::subsequence(Endpoint::ALL, 0..=Endpoint::ALL.len())),
        options in options(),
        limits in limits(),
        session_ttl in SESSION_TTL_MIN..=SESSION_TTL_MAX,
        evidence in option::of(evidence()),
        client_certificate in option::of(prop_oneof![Just(CertificateRule::Accepted), Just(CertificateRule::Required)]),
    ) -> PolicyRecord {
        PolicyRecord { version: Version1, revision, models, endpoints: endpoints.map(|list| list.into_iter().collect::<BTreeSet<_>>()), options, limits, client_certificate, session_ttl, evidence }
    }
}

/// Puts a field that nobody knows into the `nth` object of a JSON text; `None` when there are not so many.
fn with_unknown_field(json: &[u8], nth: usize) -> Option<Vec<u8>> {
    fn visit(value: &mut Value, nth: &mut usize) -> bool {
        let Value::Object(fields) = value else {
            return false;
        };
        if *nth == 0 {
            fields.insert("unheard_of".to_owned(), Value::Null);
            return true;
        }
        *nth -= 1;
        fields.values_mut().any(|v| visit(v, nth))
    }
    let mut value = serde_json::from_slice(json).unwrap();
    let mut nth = nth;
    visit(&mut value, &mut nth).then(|| serde_json::to_vec(&value).unwrap())
}

proptest! {
    #[test]
    fn devices_round_trip_and_take_no_other_field(record in device()) {
        let json = encode(&record).unwrap();
        prop_assert!(json.len() <= MAX_RECORD_LEN);
        prop_assert_eq!(&decode::<DeviceRecord>(&json).unwrap(), &record);
        let spoilt: Vec<_> = (0..).map_while(|nth| with_unknown_field(&json, nth)).collect();
        prop_assert_eq!(spoilt.len(), objects(&serde_json::from_slice(&json).unwrap()));
        for json in spoilt {
            prop_assert!(matches!(decode::<DeviceRecord>(&json), Err(Unreadable::Malformed(_))));
        }
    }

    #[test]
    fn policies_round_trip_and_take_no_other_field(record in policy()) {
        let json = encode(&record).unwrap();
        prop_assert_eq!(&decode::<PolicyRecord>(&json).unwrap(), &record);
        let spoilt: Vec<_> = (0..).map_while(|nth| with_unknown_field(&json, nth)).collect();
        prop_assert_eq!(spoilt.len(), objects(&serde_json::from_slice(&json).unwrap()));
        for json in spoilt {
            prop_assert!(matches!(decode::<PolicyRecord>(&json), Err(Unreadable::Malformed(_))));
        }
    }

    #[test]
    fn a_cut_record_is_never_read(record in device(), cut in any::<sample::Index>()) {
        let json = encode(&record).unwrap();
        let part = &json[..cut.index(json.len())];
        prop_assert!(matches!(decode::<DeviceRecord>(part), Err(Unreadable::Malformed(_))));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(noise in vec(any::<u8>(), 0..200)) {
        prop_assert!(decode::<SeenRecord>(&noise).is_err());
        prop_assert!(decode::<DeviceRecord>(&noise).is_err());
        prop_assert!(decode::<PolicyRecord>(&noise).is_err());
    }

    #[test]
    fn another_version_is_never_read(record in device(), version in 2_u64..) {
        let mut value = serde_json::to_value(&record).unwrap();
        value["version"] = version.into();
        let json = serde_json::to_vec(&value).unwrap();
        prop_assert_eq!(decode::<DeviceRecord>(&json), Err(Unreadable::Version(version)));
    }
}

#[test]
fn a_psk_in_both_slots_is_one_digest() {
    let digest = PskDigest::of(b"x");
    let mut slots = PskSlots::only(digest);
    slots.previous = Some(PreviousPsk {
        digest,
        until: UnixTime::from_secs(1),
    });
    assert_eq!(slots.digests().count(), 1);
}
