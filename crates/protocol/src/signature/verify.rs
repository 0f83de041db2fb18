//! The proxy's side of a signed request: headers in, a verified signature out.
//!
//! Owns: the order. [`verify_head`] judges what can be judged before the body is read and gives a [`SignedHead`], which
//! becomes a [`VerifiedSignature`] only against the digest of the body as received. Whether its nonce was used before
//! is asked of [`replay`](crate::replay) with the verified value.

use std::time::Duration;

use domain::{Sha256Digest, UnixTime, encoding::b64};
use ring::signature::{ED25519, UnparsedPublicKey};
use sfv::{BareItem, Dictionary, FieldType as _, InnerList, ListEntry, Parser};

use super::{
    ALG, COMPONENTS, DIGEST_ALG, KeyError, LABEL, RequestHead, RequestParts, SignatureHeaders, TAG, base,
    check_public_key, usual,
};

/// How far `created` may be from the proxy's clock, either way.
pub const MAX_SKEW: Duration = Duration::from_secs(30);
/// The longest of the three header values that is looked at, in bytes.
pub const MAX_HEADER_LEN: usize = 512;

/// Why a request's signature is not good; for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header is not what RFC 8941 would write, or too long.
    #[error("{0} is not a structured field in its canonical spelling")]
    Syntax(&'static str),
    /// `Content-Digest` is not one SHA-256.
    #[error("content-digest is not exactly one {DIGEST_ALG}")]
    Digest,
    /// `Signature-Input` or `Signature` is not exactly one member with our label.
    #[error("{0} is not exactly one signature labelled {LABEL}")]
    Label(&'static str),
    /// Other components, another order, or parameters on one.
    #[error("the signature does not cover exactly the components of the contract")]
    Components,
    /// A parameter is missing, odd or too many.
    #[error("the signature's parameters are not exactly created, nonce, alg and tag")]
    Parameters,
    /// `created` is too far from our clock.
    #[error("the signature was created at {created}, our clock says {now}")]
    Created {
        /// What the client wrote.
        created: UnixTime,
        /// What our clock says.
        now: UnixTime,
    },
    /// The session's public key cannot be one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signature was made by another key, or over something else.
    #[error("the signature does not fit the request's head")]
    Forged,
    /// The body is not the one that was signed.
    #[error("the body is not the one that was signed")]
    Body,
}

/// A signature that fits the head of its request; its body has yet to be compared.
#[derive(Debug)]
#[must_use = "the body must be compared with what was signed"]
pub struct SignedHead {
    body: Sha256Digest,
    verified: VerifiedSignature,
}

/// A signature that fits its whole request: made only by [`SignedHead::with_body`].
///
/// ```compile_fail
/// use protocol::signature::VerifiedSignature;
/// let made_up = VerifiedSignature { public_key: [0; 32], nonce: [0; 16], created: domain::UnixTime::from_secs(0) };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedSignature {
    public_key: [u8; 32],
    nonce: [u8; 16],
    created: UnixTime,
}

impl SignedHead {
    /// Compares the body that came with the one that was signed.
    ///
    /// # Errors
    /// [`SignatureError::Body`].
    pub fn with_body(self, digest: &Sha256Digest) -> Result<VerifiedSignature, SignatureError> {
        if self.body == *digest {
            Ok(self.verified)
        } else {
            Err(SignatureError::Body)
        }
    }
}

impl VerifiedSignature {
    /// The key that signed.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// What the client drew for this one request.
    #[must_use]
    pub const fn nonce(&self) -> &[u8; 16] {
        &self.nonce
    }

    /// When the client signed, by its idea of the proxy's clock.
    #[must_use]
    pub const fn created(&self) -> UnixTime {
        self.created
    }
}

/// Verifies a request whose body is at hand.
///
/// # Errors
/// The first reason for which it is not good.
pub fn verify(
    public_key: &[u8; 32],
    request: &RequestParts<'_>,
    headers: &SignatureHeaders<'_>,
    now: UnixTime,
) -> Result<VerifiedSignature, SignatureError> {
    verify_head(public_key, &request.head(), headers, now)?.with_body(request.body_digest)
}

/// Verifies the head of a request before its body is read.
///
/// # Errors
/// The first reason for which it is not good.
pub fn verify_head(
    public_key: &[u8; 32],
    head: &RequestHead<'_>,
    headers: &SignatureHeaders<'_>,
    now: UnixTime,
) -> Result<SignedHead, SignatureError> {
    let key = check_public_key(public_key)?;
    let body = read_digest(headers.content_digest)?;
    let input = read_input(headers.signature_input)?;
    let signature = read_signature(headers.signature)?;
    let created = input.created;
    if created.distance(now) > MAX_SKEW {
        return Err(SignatureError::Created { created, now });
    }
    let base = base::base(head, headers.content_digest, input.params);
    UnparsedPublicKey::new(&ED25519, &key)
        .verify(base.as_bytes(), &signature)
        .map_err(|_| SignatureError::Forged)?;
    Ok(SignedHead {
        body,
        verified: VerifiedSignature {
            public_key: key,
            nonce: input.nonce,
            created,
        },
    })
}

struct Input<'a> {
    created: UnixTime,
    nonce: [u8; 16],
    /// The text of components and parameters as it stands in the header, which is its canonical spelling.
    params: &'a str,
}

/// Parses a dictionary whose text is exactly what its parse serialises to.
fn read_canonical(name: &'static str, text: &str) -> Result<Dictionary, SignatureError> {
    if text.len() > MAX_HEADER_LEN {
        return Err(SignatureError::Syntax(name));
    }
    let parsed: Dictionary = Parser::new(text)
        .parse()
        .map_err(|_| SignatureError::Syntax(name))?;
    match parsed.serialize() {
        Some(canonical) if canonical == text => Ok(parsed),
        _ => Err(SignatureError::Syntax(name)),
    }
}

/// The value of a dictionary's one member, if that is `key`, bytes, and without parameters.
fn only_bytes(dictionary: Dictionary, key: &str) -> Option<Vec<u8>> {
    match only_member(dictionary, key)? {
        ListEntry::Item(item) if item.params.is_empty() => match item.bare_item {
            BareItem::ByteSequence(bytes) => Some(bytes),
            _ => None,
        },
        _ => None,
    }
}

fn only_member(dictionary: Dictionary, key: &str) -> Option<ListEntry> {
    let mut members = dictionary.into_iter();
    match (members.next(), members.next()) {
        (Some((found, entry)), None) if found.as_str() == key => Some(entry),
        _ => None,
    }
}

fn read_digest(text: &str) -> Result<Sha256Digest, SignatureError> {
    if let Some(digest) = usual::digest(text) {
        return Ok(digest);
    }
    let parsed = read_canonical("content-digest", text)?;
    only_bytes(parsed, DIGEST_ALG)
        .and_then(|bytes| bytes.try_into().ok())
        .map(Sha256Digest::from_bytes)
        .ok_or(SignatureError::Digest)
}

fn read_signature(text: &str) -> Result<Vec<u8>, SignatureError> {
    if let Some(signature) = usual::signature(text) {
        return Ok(signature);
    }
    let parsed = read_canonical("signature", text)?;
    only_bytes(parsed, LABEL).ok_or(SignatureError::Label("signature"))
}

fn read_input(text: &str) -> Result<Input<'_>, SignatureError> {
    const NAME: &str = "signature-input";
    if let Some((created, nonce, params)) = usual::input(text) {
        return Ok(Input {
            created,
            nonce,
            params,
        });
    }
    let parsed = read_canonical(NAME, text)?;
    let Some(ListEntry::InnerList(list)) = only_member(parsed, LABEL) else {
        return Err(SignatureError::Label(NAME));
    };
    let params = text
        .strip_prefix(LABEL)
        .and_then(|rest| rest.strip_prefix('='))
        .ok_or(SignatureError::Label(NAME))?;
    if !covers_the_contract(&list) {
        return Err(SignatureError::Components);
    }
    let (created, nonce) = read_params(&list).ok_or(SignatureError::Parameters)?;
    Ok(Input {
        created,
        nonce,
        params,
    })
}

fn covers_the_contract(list: &InnerList) -> bool {
    list.items.len() == COMPONENTS.len()
        && list.items.iter().zip(COMPONENTS).all(|(item, name)| {
            item.params.is_empty() && item.bare_item.as_string().is_some_and(|s| s.as_str() == name)
        })
}

fn read_params(list: &InnerList) -> Option<(UnixTime, [u8; 16])> {
    let params = &list.params;
    let text = |key: &str| Some(params.get(key)?.as_string()?.as_str());
    if params.len() != 4 || text("alg")? != ALG || text("tag")? != TAG {
        return None;
    }
    let created = i64::from(params.get("created")?.as_integer()?);
    let nonce = b64::decode(text("nonce")?.as_bytes())?;
    Some((
        UnixTime::from_secs(u64::try_from(created).ok()?),
        nonce.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a text is as a digest, as a signature, and as a signature's input.
    type Read = (Option<Vec<u8>>, Option<Vec<u8>>, Option<(UnixTime, [u8; 16])>);

    /// What the readers say without the short way.
    fn by_parser(text: &str) -> Read {
        let parsed = || read_canonical("field", text).ok();
        let input = match parsed().and_then(|d| only_member(d, LABEL)) {
            Some(ListEntry::InnerList(list)) if covers_the_contract(&list) => read_params(&list),
            _ => None,
        };
        (
            parsed()
                .and_then(|d| only_bytes(d, DIGEST_ALG))
                .filter(|bytes| bytes.len() == 32),
            parsed().and_then(|d| only_bytes(d, LABEL)),
            input,
        )
    }

    fn agrees(text: &str) {
        let (digest, signature, input) = by_parser(text);
        if let Some(found) = usual::digest(text) {
            assert_eq!(Some(found.as_bytes().to_vec()), digest, "{text}");
        }
        if let Some(found) = usual::signature(text) {
            assert_eq!(Some(found), signature, "{text}");
        }
        if let Some((created, nonce, params)) = usual::input(text) {
            assert_eq!(Some((created, nonce)), input, "{text}");
            assert_eq!(format!("{LABEL}={params}"), text);
        }
    }

    #[test]
    fn what_sign_writes_takes_the_short_way() {
        let (digest, nonce) = (Sha256Digest::of(b"x"), [7; 16]);
        let params = base::params(UnixTime::from_secs(1_767_225_600), &nonce);
        let written = [
            base::content_digest(&digest),
            format!("{LABEL}={}", crate::headers::bytes(&[9; 64])),
            format!("{LABEL}={params}"),
        ];
        let [d, s, i] = &written;
        assert_eq!(usual::digest(d), Some(digest));
        assert_eq!(usual::signature(s), Some(vec![9; 64]));
        let (created, found, rest) = usual::input(i).unwrap();
        assert_eq!(
            (created, found, rest),
            (UnixTime::from_secs(1_767_225_600), nonce, params.as_str())
        );
        written.iter().for_each(|text| agrees(text));
    }

    #[test]
    fn the_short_way_takes_no_other_spelling() {
        let params = base::params(UnixTime::from_secs(5), &[7; 16]);
        for created in [
            "05",
            "",
            "-5",
            "+5",
            "5.0",
            "1000000000000000",
            "9999999999999999999999",
        ] {
            let text = format!("{LABEL}={params}").replace("created=5", &format!("created={created}"));
            assert_eq!(usual::input(&text), None, "{text}");
        }
        let long = format!("{LABEL}={}", crate::headers::bytes(&[9; 400]));
        assert_eq!(usual::signature(&long), None);
        assert_eq!(
            usual::digest(&format!("{DIGEST_ALG}={}", crate::headers::bytes(&[9; 31]))),
            None
        );
    }

    proptest! {
        /// One edit of what is usual: the short way never says anything that the parser does not.
        #[test]
        fn the_short_way_agrees_with_the_parser(
            which in 0_usize..3, at in any::<proptest::sample::Index>(), with in "[ -~]{0,2}", cut in 0_usize..2,
            created in any::<u32>(), nonce in any::<[u8; 16]>(), long in proptest::collection::vec(any::<u8>(), 0..70),
        ) {
            let mut text = match which {
                0 => base::content_digest(&Sha256Digest::of(&nonce)),
                1 => format!("{LABEL}={}", crate::headers::bytes(&long)),
                _ => format!("{LABEL}={}", base::params(UnixTime::from_secs(created.into()), &nonce)),
            };
            agrees(&text);
            let at = at.index(text.len());
            text.replace_range(at..(at + cut).min(text.len()), &with);
            agrees(&text);
        }
    }
}
