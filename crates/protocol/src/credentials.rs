//! Reading credentials off a request's headers.
//!
//! Owns: which sets of headers are a way to ask at all: the PSK alone, the PSK and all four quote headers, or the PSK
//! and a session with its signature. Refuses: anything else. A field that came twice, two different keys, half a set,
//! a session beside a quote, a header that is one of ours but for an underscore (which some servers behind a proxy
//! fold into a dash): all malformed, because two readers could take them for two different requests.
//! The text of the PSK is hashed at once and not kept. An attacker controls every header; nothing is trusted here, and
//! nothing tells who the device is but the record that the digest finds.

use domain::{PskDigest, secret::PSK_MAX_LEN};
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};

use crate::headers;

/// Every header that is taken off a request before it goes upstream.
pub static STRIPPED: [HeaderName; 12] = [
    headers::PSK,
    headers::API_KEY,
    AUTHORIZATION,
    headers::QUOTE,
    headers::QUOTE_SIGNATURE,
    headers::QUOTE_PCRS,
    headers::QUOTE_NONCE,
    headers::SESSION,
    headers::CHALLENGE,
    headers::CONTENT_DIGEST,
    headers::SIGNATURE_INPUT,
    headers::SIGNATURE,
];

/// The longest value of a header that carries bytes: an RSA-4096 signature and all 24 PCRs of a SHA-384 bank fit.
pub const MAX_VALUE_LEN: usize = 2048;

/// What a request presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// SHA-256 over the text of the PSK that came.
    pub psk: PskDigest,
    /// What came with it.
    pub presented: Presented<'a>,
}

/// The ways to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented<'a> {
    /// The PSK alone.
    PskOnly,
    /// Evidence in the request itself.
    Quote(QuoteHeaders),
    /// A session and the request's signature, each verbatim.
    Session {
        /// `Attestation-Session`.
        token: &'a str,
        /// `Content-Digest`.
        content_digest: &'a str,
        /// `Signature-Input`.
        signature_input: &'a str,
        /// `Signature`.
        signature: &'a str,
    },
}

/// The four quote headers, decoded and otherwise unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuoteHeaders {
    /// TPMS_ATTEST.
    pub quote: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    /// PCR values, ascending.
    pub pcrs: Vec<u8>,
    /// The nonce that was answered.
    pub nonce: Vec<u8>,
}

/// Why a request's headers are no credentials; for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// No PSK in any of its three places.
    #[error("no pre-shared key")]
    PskMissing,
    /// A PSK that no device can have.
    #[error("a pre-shared key that no device can have")]
    PskImpossible,
    /// A field came more than once.
    #[error("{0} came more than once")]
    Repeated(HeaderName),
    /// Two places hold two keys.
    #[error("two different pre-shared keys")]
    TwoPsks,
    /// `Authorization` is not `Bearer` and a key.
    #[error("authorization is not a bearer key")]
    NotBearer,
    /// One of ours, spelled with an underscore.
    #[error("{0} is one of our headers with an underscore")]
    Twin(HeaderName),
    /// Some of a set's headers, not all.
    #[error("{missing} is missing beside the others of its set")]
    Half {
        /// The first one that is missing.
        missing: HeaderName,
    },
    /// A session beside a quote.
    #[error("a session beside a quote")]
    Both,
    /// The value is not what this header carries, or too long.
    #[error("{0} does not hold what it should")]
    Value(HeaderName),
}

/// Reads the credentials of a request.
///
/// # Errors
/// The first reason for which the headers are none.
pub fn read(map: &HeaderMap) -> Result<Credentials<'_>, CredentialsError> {
    let found = Found::sort(map)?;
    let psk = read_psk(&found)?;
    let evidence = found.set([At::Quote, At::QuoteSignature, At::QuotePcrs, At::QuoteNonce])?;
    let session = found.set([At::Session, At::ContentDigest, At::SignatureInput, At::Signature])?;
    let presented = match (evidence, session) {
        (None, None) => Presented::PskOnly,
        (Some(_), Some(_)) => return Err(CredentialsError::Both),
        (Some([quote, signature, pcrs, nonce]), None) => Presented::Quote(QuoteHeaders {
            quote: quote.bytes()?,
            signature: signature.bytes()?,
            pcrs: pcrs.bytes()?,
            nonce: nonce.bytes()?,
        }),
        (None, Some([token, digest, input, signature])) => Presented::Session {
            token: token.text()?,
            content_digest: digest.text()?,
            signature_input: input.text()?,
            signature: signature.text()?,
        },
    };
    Ok(Credentials { psk, presented })
}

struct Field<'a> {
    name: HeaderName,
    value: &'a [u8],
}

impl<'a> Field<'a> {
    fn text(self) -> Result<&'a str, CredentialsError> {
        match std::str::from_utf8(self.value) {
            Ok(text) if text.bytes().all(|b| matches!(b, b' '..=b'~')) && text.len() <= MAX_VALUE_LEN => {
                Ok(text)
            }
            _ => Err(CredentialsError::Value(self.name)),
        }
    }

    fn bytes(self) -> Result<Vec<u8>, CredentialsError> {
        if self.value.len() > MAX_VALUE_LEN {
            return Err(CredentialsError::Value(self.name));
        }
        headers::parse_bytes(self.value).map_err(|_| CredentialsError::Value(self.name))
    }
}

/// Where each field stands in [`STRIPPED`].
#[derive(Debug, Clone, Copy)]
enum At {
    Psk,
    ApiKey,
    Authorization,
    Quote,
    QuoteSignature,
    QuotePcrs,
    QuoteNonce,
    Session,
    Challenge,
    ContentDigest,
    SignatureInput,
    Signature,
}

impl At {
    /// By a name in lower case. Nearly every field is none of ours, and its length tells so.
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "x-pre-shared-key" => Self::Psk,
            "x-api-key" => Self::ApiKey,
            "authorization" => Self::Authorization,
            "tpm-quote" => Self::Quote,
            "tpm-quote-signature" => Self::QuoteSignature,
            "tpm-quote-pcrs" => Self::QuotePcrs,
            "tpm-quote-nonce" => Self::QuoteNonce,
            "attestation-session" => Self::Session,
            "attestation-challenge" => Self::Challenge,
            "content-digest" => Self::ContentDigest,
            "signature-input" => Self::SignatureInput,
            "signature" => Self::Signature,
            _ => return None,
        })
    }

    const fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> HeaderName {
        STRIPPED.get(self.index()).cloned().unwrap_or(headers::PSK)
    }
}

/// The fields that are ours, in the order of [`STRIPPED`], found in one walk over all of them.
struct Found<'a>([Values<'a>; STRIPPED.len()]);

#[derive(Clone, Copy)]
enum Values<'a> {
    None,
    One(&'a [u8]),
    More,
}

impl<'a> Found<'a> {
    fn sort(map: &'a HeaderMap) -> Result<Self, CredentialsError> {
        let mut found = [Values::None; STRIPPED.len()];
        for (name, value) in map {
            if is_twin(name) {
                return Err(CredentialsError::Twin(name.clone()));
            }
            if let Some(values) = At::of(name.as_str()).and_then(|at| found.get_mut(at.index())) {
                *values = match values {
                    Values::None => Values::One(value.as_bytes()),
                    Values::One(_) | Values::More => Values::More,
                };
            }
        }
        Ok(Self(found))
    }

    /// The one value of a field, if it came at all.
    fn one(&self, at: At) -> Result<Option<Field<'a>>, CredentialsError> {
        match self.0.get(at.index()) {
            None | Some(Values::None) => Ok(None),
            Some(Values::One(value)) => Ok(Some(Field {
                name: at.name(),
                value,
            })),
            Some(Values::More) => Err(CredentialsError::Repeated(at.name())),
        }
    }

    /// All fields of a set, or none.
    fn set(&self, fields: [At; 4]) -> Result<Option<[Field<'a>; 4]>, CredentialsError> {
        let [a, b, c, d] = fields;
        let (first, second) = (self.one(a)?, self.one(b)?);
        let (third, fourth) = (self.one(c)?, self.one(d)?);
        match (first, second, third, fourth) {
            (None, None, None, None) => Ok(None),
            (Some(first), Some(second), Some(third), Some(fourth)) => {
                Ok(Some([first, second, third, fourth]))
            }
            (None, ..) => Err(CredentialsError::Half { missing: a.name() }),
            (_, None, ..) => Err(CredentialsError::Half { missing: b.name() }),
            (_, _, None, _) => Err(CredentialsError::Half { missing: c.name() }),
            (.., None) => Err(CredentialsError::Half { missing: d.name() }),
        }
    }
}

fn read_psk(found: &Found<'_>) -> Result<PskDigest, CredentialsError> {
    let direct = found.one(At::Psk)?.map(|field| field.value);
    let api_key = found.one(At::ApiKey)?.map(|field| field.value);
    let bearer = match found.one(At::Authorization)? {
        Some(field) => Some(bearer(field.value).ok_or(CredentialsError::NotBearer)?),
        None => None,
    };
    let mut digests = [direct, api_key, bearer].into_iter().flatten().map(digest);
    let first = digests.next().ok_or(CredentialsError::PskMissing)??;
    for other in digests {
        if other? != first {
            return Err(CredentialsError::TwoPsks);
        }
    }
    Ok(first)
}

/// The credentials of `Bearer` (RFC 6750, section 2.1; the scheme's case does not matter, RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !rest.starts_with(b" ")).then_some(rest)
}

fn digest(text: &[u8]) -> Result<PskDigest, CredentialsError> {
    if text.is_empty() {
        Err(CredentialsError::PskMissing)
    } else if text.len() > PSK_MAX_LEN || !text.iter().all(u8::is_ascii_graphic) {
        Err(CredentialsError::PskImpossible)
    } else {
        Ok(PskDigest::of(text))
    }
}

fn is_twin(name: &HeaderName) -> bool {
    let text = name.as_str();
    text.contains('_') && {
        let folded = text.replace('_', "-");
        STRIPPED.iter().any(|ours| ours.as_str() == folded)
    }
}
