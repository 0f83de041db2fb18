//! The TPM's own structures.

use evidence::wire::{Attest, PcrSelections, Public, Signature};

/// `TPMS_ATTEST`.
pub fn attest(data: &[u8]) {
    if let Ok(attest) = Attest::parse(data) {
        assert_eq!(attest.encode(), data);
    }
}

/// `TPMT_SIGNATURE`.
pub fn signature(data: &[u8]) {
    if let Ok(signature) = Signature::parse(data) {
        assert_eq!(signature.encode(), data);
    }
}

/// `TPMT_PUBLIC`.
pub fn public(data: &[u8]) {
    if let Ok(public) = Public::parse(data) {
        assert_eq!(public.encode(), data);
        let _shown = format!("{public:?}");
    }
}

/// `TPML_PCR_SELECTION`, and the one selection that it may be.
pub fn pcr_selections(data: &[u8]) {
    let Ok(list) = PcrSelections::parse(data) else {
        return;
    };
    let mut out = Vec::new();
    list.encode(&mut out);
    assert_eq!(out, data);
    assert!(!list.to_string().is_empty());
    if let Ok(single) = list.single() {
        let encoded = PcrSelections::encode_single(&single);
        assert_eq!(
            PcrSelections::parse(&encoded).map(|list| list.single()),
            Ok(Ok(single))
        );
        // Longer bitmaps exist; one of three octets has a single spelling.
        if data.len() == encoded.len() {
            assert_eq!(encoded, data);
        }
    }
}
