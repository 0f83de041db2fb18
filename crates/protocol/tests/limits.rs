//! The last value that a limit allows, and the first that it does not.
#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

use domain::secret::PSK_MAX_LEN;
use http::{HeaderMap, HeaderValue};
use protocol::{
    Fields,
    credentials::{CredentialsError, read},
    headers,
};

#[test]
fn the_longest_pre_shared_key_is_read_and_no_longer_one() {
    let refused = |len: usize| {
        let mut map = HeaderMap::new();
        map.insert(headers::PSK, HeaderValue::from_str(&"p".repeat(len)).unwrap());
        read(&map).err()
    };
    assert_eq!(refused(PSK_MAX_LEN), None);
    assert_eq!(refused(PSK_MAX_LEN + 1), Some(CredentialsError::PskImpossible));
}

#[test]
fn fields_are_done_only_at_the_end() {
    let mut fields = Fields::new(b"\0\0\0\x01ab");
    assert!(!fields.is_done());
    assert_eq!(fields.field(), Some(&b"a"[..]));
    assert!(!fields.is_done(), "an octet is left");
    assert_eq!(fields.fixed(), Some(*b"b"));
    assert!(fields.is_done());
}
