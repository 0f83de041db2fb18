//! The checks of an examination, one function each.
//!
//! Owns: what each check says. Signatures are checked by [`AttestationKey`], around whose demands the key is wrapped, so
//! that there is one implementation of them; RSASSA with SHA-1, which no attestation key of ours may have, is here.

use data_encoding::HEXLOWER;
use domain::{HashAlg, PcrSelection, PcrValues, TpmName, TpmPublic};
use ring::signature::{RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RsaPublicKeyComponents};

use super::{
    Case, Check, NotEvidence, Outcome, Subject, is_weak,
    key::{area_around, schemes_of, signatures, with_scheme},
};
use crate::{
    ak::{AkError, AttestationKey},
    appraise::Attachments,
    eventlog::EventLog,
    hash,
    policy::PcrPolicy,
    quoted::Quoted,
    recognise::Recognised,
    rsa::EXPONENT,
    rules::LogRules,
    wire::{Attest, Parameters, PcrSelections, Public, Scheme, Signature, SignatureAlg},
};

pub(super) struct Examiner<'a> {
    pub(super) case: &'a Case<'a>,
    pub(super) public: Public<'a>,
    pub(super) quote: &'a [u8],
    pub(super) attest: Attest<'a>,
    pub(super) selection: PcrSelections<'a>,
    pub(super) digest: &'a [u8],
}

impl Examiner<'_> {
    /// Every check, and the values if they are the quoted ones.
    pub(super) fn all(&self) -> Result<(Vec<Check>, Vec<PcrValues>), NotEvidence> {
        let (signature, scheme) = self.signature()?;
        let (selection, banks) = self.selection();
        let (pcr_values, values) = self.pcr_values(&banks, scheme);
        let list = [
            (Subject::Quote, Outcome::Passed(self.quote_says())),
            (Subject::Key, self.key()),
            (Subject::Signature, signature),
            (Subject::Signer, self.signer()),
            (Subject::QualifyingData, self.qualifying_data()),
            (Subject::Selection, selection),
            (Subject::PcrValues, pcr_values),
            (Subject::Policy, self.policy(&values)),
            (Subject::EventLog, self.event_log(&values)),
            (
                Subject::Freshness,
                not_made(
                    "no earlier quote of this key is at hand to compare resets, restarts and the clock with",
                ),
            ),
            (
                Subject::Identity,
                not_made(
                    "whose key this is, a file cannot tell: enrolment binds a key to a TPM and a device",
                ),
            ),
        ];
        let checks = list
            .into_iter()
            .map(|(subject, outcome)| Check { subject, outcome })
            .collect();
        Ok((checks, values))
    }

    fn quote_says(&self) -> String {
        let clock = self.attest.clock;
        format!(
            "a TPM's quote over {}; reset count {}, restart count {}, clock {} ms",
            self.selection, clock.reset_count, clock.restart_count, clock.clock
        )
    }

    fn key(&self) -> Outcome {
        let Some(public) = self.case.key.tpm_public() else {
            return not_made(
                "attributes and scheme unknown, the file holds the key alone: whether it signs only what a TPM formed, and \
                 never left its TPM, is not known",
            );
        };
        // Any qualified name of the right length: whether it is the signer's is another check.
        let name_alg = self.public.name_alg;
        let named = placeholder(name_alg).map(|name| AttestationKey::new(&public, &name));
        match named {
            Some(Ok(ak)) => Outcome::Passed(format!(
                "a restricted signing key that cannot leave its TPM, {}, Name {}",
                ak.scheme(),
                HEXLOWER.encode(ak.name().as_bytes())
            )),
            Some(Err(AkError::Algorithm(what))) if self.case.allow_sha1 && what.contains("sha1") => {
                Outcome::Passed(format!("{what} is accepted because SHA-1 was asked for"))
            }
            Some(Err(error)) => failed(chain(&error)),
            None => failed("the key's Name cannot be told".to_owned()),
        }
    }

    /// The outcome, and the scheme that the signature is of, or claims.
    fn signature(&self) -> Result<(Outcome, Option<Scheme>), NotEvidence> {
        let own = match self.public.parameters {
            Parameters::Rsa { scheme, .. } | Parameters::Ecc { scheme, .. } => scheme,
        };
        let parameters = &self.public.parameters;
        let possible = own.map_or_else(
            || schemes_of(parameters, self.digest.len()),
            |scheme| vec![scheme],
        );
        let marshalled = signatures(self.case.evidence.signature, parameters, &possible)
            .map_err(NotEvidence::Signature)?;
        let mut reasons = Vec::new();
        let mut claimed = None;
        for bytes in &marshalled {
            let signature = Signature::parse(bytes).map_err(NotEvidence::Signature)?;
            let scheme = signature.scheme();
            claimed = claimed.or(Some(scheme));
            match own {
                Some(own) if own != scheme => {
                    reasons.push(format!("the signature is {scheme}, the key signs {own}"));
                }
                _ if is_weak(scheme.hash) && !self.case.allow_sha1 => {
                    reasons.push(format!("{scheme} is not accepted unless SHA-1 is asked for"));
                }
                _ => match self.made(&signature) {
                    Ok(true) => {
                        let by = if own.is_some() {
                            ""
                        } else {
                            ", as the signature says"
                        };
                        let said = format!("the key made the signature over the quote ({scheme}{by})");
                        return Ok((Outcome::Passed(said), Some(scheme)));
                    }
                    Ok(false) => reasons.push(format!(
                        "the signature over the quote is not this key's ({scheme})"
                    )),
                    Err(why) => reasons.push(why),
                },
            }
        }
        if reasons.is_empty() {
            reasons.push("no signature scheme fits this key and this quote".to_owned());
        }
        Ok((Outcome::Failed(reasons), claimed))
    }

    fn made(&self, signature: &Signature<'_>) -> Result<bool, String> {
        let scheme = signature.scheme();
        if is_weak(scheme.hash) {
            return self.made_with_sha1(signature);
        }
        let area = area_around(with_scheme(&self.public.parameters, scheme)).encode();
        let area = TpmPublic::try_from(area).map_err(|error| error.to_string())?;
        let name = placeholder(HashAlg::Sha256).ok_or("the key has no name")?;
        let key = AttestationKey::new(&area, &name).map_err(|error| chain(&error))?;
        Ok(key.made(signature, self.quote))
    }

    fn made_with_sha1(&self, signature: &Signature<'_>) -> Result<bool, String> {
        let (
            Parameters::Rsa {
                modulus, exponent, ..
            },
            Signature::Rsa { scheme, bytes },
        ) = (self.public.parameters, signature)
        else {
            return Err(format!("{} is not supported", signature.scheme()));
        };
        if scheme.alg != SignatureAlg::Rsassa || !matches!(exponent, 0 | EXPONENT) {
            return Err(format!("{scheme} is not supported"));
        }
        let e = EXPONENT.to_be_bytes();
        let key = RsaPublicKeyComponents {
            n: modulus,
            e: e.strip_prefix(&[0]).unwrap_or(&e),
        };
        let made = key.verify(&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, self.quote, bytes);
        Ok(made.is_ok())
    }

    fn signer(&self) -> Outcome {
        let found = HEXLOWER.encode(self.attest.qualified_signer);
        match self.case.key.qualified_name() {
            None => not_made(
                "the key's qualified name is not known: without its parent, an EK, nobody can tell whether the quote names \
                 this key",
            ),
            Some(name) if name.as_bytes() == self.attest.qualified_signer => {
                Outcome::Passed(format!("the quote names the key's qualified name {found}"))
            }
            Some(name) => failed(format!(
                "the quote names another signer: expected {}, found {found}",
                HEXLOWER.encode(name.as_bytes())
            )),
        }
    }

    fn qualifying_data(&self) -> Outcome {
        let (expected, found) = (self.case.qualifying_data, self.attest.extra_data);
        if expected.is_empty() {
            return failed(
                "nothing to be bound to was given: a quote without a nonce can be of any time".to_owned(),
            );
        }
        if expected == found {
            return Outcome::Passed(format!("the quote is bound to {}", HEXLOWER.encode(found)));
        }
        let found = match found {
            [] => "none".to_owned(),
            bytes => HEXLOWER.encode(bytes),
        };
        failed(format!(
            "the quote answers another challenge: expected qualifying data {}, found {found}",
            HEXLOWER.encode(expected)
        ))
    }

    /// The outcome, and the selection of each bank in the quote's order; none if it cannot be used.
    fn selection(&self) -> (Outcome, Vec<PcrSelection>) {
        let mut reasons = Vec::new();
        let mut banks: Vec<PcrSelection> = Vec::new();
        let mut is_usable = true;
        for entry in self.selection.iter() {
            let Some((low, high)) = entry.bitmap.split_first_chunk::<3>() else {
                continue;
            };
            if high.iter().any(|octet| *octet != 0) {
                is_usable = false;
                reasons.push("a PCR above 23 is quoted".to_owned());
            } else if banks.iter().any(|other| other.bank() == entry.bank) {
                is_usable = false;
                reasons.push(format!("the {} bank is selected twice", entry.bank));
            } else if let Ok(selection) = PcrSelection::from_bitmap(entry.bank, *low) {
                banks.push(selection);
            }
        }
        if banks.is_empty() && is_usable {
            reasons.push("the quote covers no PCR, so it says nothing about the machine".to_owned());
        }
        if banks.iter().any(|selection| is_weak(selection.bank())) && !self.case.allow_sha1 {
            reasons.push("SHA-1 PCRs are quoted, which is not accepted unless it is asked for".to_owned());
        }
        if let Some(policy) = self.case.policy
            && self.selection.single() != Ok(policy.selection())
        {
            let (found, wanted) = (self.selection, policy.selection());
            reasons.push(format!(
                "the quote covers {found}, the policy wants exactly {wanted}"
            ));
        }
        if !is_usable {
            banks.clear();
        }
        let outcome = if reasons.is_empty() {
            Outcome::Passed(format!("the quote covers {}", self.selection))
        } else {
            Outcome::Failed(reasons)
        };
        (outcome, banks)
    }

    fn pcr_values(&self, banks: &[PcrSelection], scheme: Option<Scheme>) -> (Outcome, Vec<PcrValues>) {
        let bytes = self.case.evidence.pcrs;
        let len_of = |s: &PcrSelection| s.bank().digest_len().saturating_mul(s.count());
        let expected: usize = banks.iter().map(len_of).sum();
        if bytes.len() != expected {
            let reason = format!(
                "{} bytes of PCR values are there, {} has {expected}",
                bytes.len(),
                self.selection
            );
            return (failed(reason), Vec::new());
        }
        // Part 3, 18.4: pcrDigest uses the hash of the signing scheme, which need not be the bank's.
        let Some(scheme) = scheme else {
            return (not_made("the hash of the signature is not known"), Vec::new());
        };
        if banks.is_empty() || hash::digest(scheme.hash, &[bytes]).as_ref() != self.digest {
            let reason = "the PCR values are not the ones that the TPM quoted".to_owned();
            return (failed(reason), Vec::new());
        }
        let mut rest = bytes;
        let mut values = Vec::new();
        for selection in banks {
            let Some((own, after)) = rest.split_at_checked(len_of(selection)) else {
                break;
            };
            rest = after;
            values.extend(PcrValues::new(*selection, own.to_vec()).ok());
        }
        let said = format!(
            "{} PCR values hash to the quoted digest",
            banks.iter().map(PcrSelection::count).sum::<usize>()
        );
        (Outcome::Passed(said), values)
    }

    fn policy(&self, values: &[PcrValues]) -> Outcome {
        let Some(policy) = self.case.policy else {
            return not_made("no policy was given: what the PCRs should hold is not known");
        };
        let [values] = values else {
            return not_made("there are no quoted values of one bank to compare");
        };
        let attachments = Attachments {
            event_log: self.case.event_log,
            image_statement: self.case.image_statement,
        };
        let mut failures = Vec::new();
        if *values.selection() != policy.selection() {
            policy.recognise(None, attachments, &mut failures);
            let mut reasons = vec!["other PCRs are quoted than the policy names".to_owned()];
            reasons.extend(failures.iter().map(ToString::to_string));
            return Outcome::Failed(reasons);
        }
        let quoted = Quoted {
            selection: *values.selection(),
            values: values.as_bytes(),
        };
        match policy.recognise(Some(quoted), attachments, &mut failures) {
            Some(found) if failures.is_empty() => Outcome::Passed(recognised(policy, &found)),
            _ => Outcome::Failed(failures.iter().map(ToString::to_string).collect()),
        }
    }

    fn event_log(&self, values: &[PcrValues]) -> Outcome {
        let Some(bytes) = self.case.event_log else {
            return not_made("no event log was given: what was measured is not known");
        };
        let log = match EventLog::parse(bytes) {
            Ok(log) => log,
            Err(error) => return failed(format!("the event log cannot be read: {error}")),
        };
        if values.is_empty() {
            return not_made("there are no quoted values to replay the event log to");
        }
        let mut reasons = Vec::new();
        let mut events = 0;
        // Rules name the PCRs that a log must explain; others hold what nobody logs, such as the phases of the boot.
        let ruled = self
            .case
            .policy
            .and_then(|policy| policy.log_rules())
            .map(LogRules::pcrs);
        for one in values {
            let quoted = Quoted {
                selection: *one.selection(),
                values: one.as_bytes(),
            };
            let only = ruled.as_ref().and_then(|pcrs| quoted.only(pcrs));
            match log.clone().prove(only.as_ref().unwrap_or(one)) {
                Ok(proven) => events = proven.events().len(),
                Err(error) => reasons.push(format!("the event log proves nothing: {error}")),
            }
        }
        if reasons.is_empty() {
            let which = if ruled.is_some() {
                "every PCR that the policy's rules are about"
            } else {
                "every quoted PCR"
            };
            return Outcome::Passed(format!("the event log replays to {which}: {events} events"));
        }
        Outcome::Failed(reasons)
    }
}

/// What the PCRs turned out to be, part by part.
fn recognised(policy: &PcrPolicy, found: &Recognised) -> String {
    let mut said = match &found.golden_set {
        Some(set) => format!("the PCRs are those of golden set `{set}`"),
        None => "the PCRs are the policy's".to_owned(),
    };
    if let Some(release) = found.release {
        said.push_str(&format!("; the image is release {release}"));
    }
    if policy.log_rules().is_some() {
        said.push_str("; the event log keeps every rule");
    }
    said
}

fn failed(reason: String) -> Outcome {
    Outcome::Failed(vec![reason])
}

fn not_made(reason: &str) -> Outcome {
    Outcome::NotMade(reason.to_owned())
}

/// A qualified name of the right length, for a key whose own is not known: it is compared with nothing.
fn placeholder(alg: HashAlg) -> Option<TpmName> {
    let mut bytes = alg.tpm_id().to_be_bytes().to_vec();
    bytes.resize(alg.digest_len().saturating_add(2), 0);
    TpmName::try_from(bytes).ok()
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
