//! To what a volume's secret is sealed in a TPM, here or elsewhere, and the token that says so.
//!
//! Owns: the way from command line or token to a policy, what fits which systemd (252 has its own storage key and hashes a PIN
//! without salt; later ones have the TCG's key, a salt, and the policy key's Name with a zero for its exponent), and the words for a
//! person. That the secret comes back out is seen before anyone relies on it, where this machine can see it.

use std::path::Path;

use domain::{HashAlg, PcrSelection, PcrValues, Pin, SealedSecret};
use tpm::{
    Conditions, KeyForm, PinAuth, PinSalt, PolicyKey, PolicySignatures, PrimaryAlg, ReadBack, SealEntropy,
    SealOptions, SealedObject, SignedPcrs, StorageKey, StorageTemplate, Tpm, seal_for, srk_to_token,
};
use volume::{KeyslotId, TokenPin, TokenSigned, Tpm2Token};
use zeroize::Zeroizing;

use super::{entropy::Stream, opening, secrets, usage};
use crate::{
    cli::{SealArgs, Srk},
    failure::Failure,
};

/// To what a secret is sealed.
pub(super) struct Seal {
    exact: Option<PcrSelection>,
    signed: Option<(PolicyKey, PcrSelection)>,
    signatures: Option<PolicySignatures>,
    pin: Option<Pin>,
    srk: Srk,
    bank: HashAlg,
    force: bool,
}

impl Seal {
    /// What the command line asks for; asks for the PIN.
    pub(super) fn of_args(args: &SealArgs, signature: Option<&Path>) -> Result<Self, Failure> {
        let bank = args.seal_bank;
        let in_bank = |list: &crate::cli::PcrList| {
            list.of(bank)
                .map_err(|e| usage(e, "PCRs are numbers from 0 to 23, for example 7,11"))
        };
        let exact = args.seal_pcrs.as_ref().map(in_bank).transpose()?;
        let signed = match &args.seal_public_key {
            Some(path) => {
                let key = PolicyKey::from_pem(&opening::public_file(path)?);
                let key = key.map_err(|e| Failure::NotEvidence {
                    what: "policy key",
                    path: path.clone(),
                    source: e.into(),
                })?;
                Some((key, in_bank(&args.seal_public_key_pcrs)?))
            }
            None => None,
        };
        if exact.is_none() && signed.is_none() {
            return Err(usage(
                "nothing says to what the volume is sealed",
                "--seal-pcrs 7,11, or --seal-public-key FILE, or --otp on a Raspberry Pi",
            ));
        }
        let wants_pin = args.pin || args.new_pin_file.is_some();
        Ok(Self {
            exact,
            signatures: signed
                .as_ref()
                .map(|_| opening::signatures(signature))
                .transpose()?
                .flatten(),
            signed,
            pin: wants_pin
                .then(|| secrets::new_pin(args.new_pin_file.as_deref()))
                .transpose()?,
            srk: args.srk,
            bank: bank.alg(),
            force: args.force_uninitialised_pcrs,
        })
    }

    /// What a volume is sealed to already, with the present values of its PCRs. `pin`: the one that opened it.
    pub(super) fn as_before(
        token: &Tpm2Token,
        pin: Option<Pin>,
        args: &SealArgs,
        signature: Option<&Path>,
    ) -> Result<Self, Failure> {
        let key = opening::policy_key(token)?;
        let signed = token.signed.as_ref().zip(key);
        let signed = signed.map(|(signed, key)| (key, signed.pcrs));
        let pin = match (token.pin, pin) {
            (TokenPin::None, _) => None,
            (_, Some(pin)) => Some(pin),
            (_, None) => Some(secrets::new_pin(None)?),
        };
        let srk = match (&token.srk, token.primary_alg) {
            _ if args.srk != Srk::default() => args.srk,
            (Some(_), _) => Srk::Tcg,
            (None, volume::PrimaryAlg::Ecc) => Srk::Systemd,
            (None, volume::PrimaryAlg::Rsa) => Srk::SystemdRsa,
        };
        Ok(Self {
            exact: token.exact,
            signatures: signed
                .as_ref()
                .map(|_| opening::signatures(signature))
                .transpose()?
                .flatten(),
            signed,
            pin,
            srk,
            bank: token.bank,
            force: args.force_uninitialised_pcrs,
        })
    }

    /// Seals in a TPM that is here.
    pub(super) fn here(
        &self,
        tpm: &mut Tpm,
        secret: &SealedSecret,
        stream: &mut Stream,
    ) -> Result<(Tpm2Token, ReadBack), Failure> {
        let pin = self.token_pin(stream)?;
        let (object, read_back) = tpm
            .seal_with(secret, &self.conditions(pin), self.options())
            .map_err(Failure::SealHere)?;
        let srk = match self.srk {
            Srk::Tcg => {
                let persistent = tpm.persistent_storage_key().map_err(Failure::BareTpm)?;
                let key = match persistent {
                    Some(key) => key,
                    None => tpm
                        .storage_key(StorageTemplate::TcgEcc)
                        .map_err(Failure::BareTpm)?,
                };
                Some(srk_to_token(&key).map_err(Failure::BareTpm)?)
            }
            Srk::Systemd | Srk::SystemdRsa => None,
        };
        Ok((self.token(object, pin, srk), read_back))
    }

    /// Seals to a TPM that is not here; `values` are those that its exact PCRs will have.
    pub(super) fn away(
        &self,
        srk: &StorageKey,
        values: Option<&PcrValues>,
        secret: &SealedSecret,
        stream: &mut Stream,
    ) -> Result<Tpm2Token, Failure> {
        let pin = self.token_pin(stream)?;
        let entropy = SealEntropy {
            seed: Zeroizing::new(stream.draw()?),
            obfuscation: Zeroizing::new(stream.draw()?),
        };
        let object = seal_for(
            srk,
            secret,
            &self.conditions(pin),
            values,
            self.options(),
            entropy,
        )
        .map_err(Failure::SealHere)?;
        let token_srk = match srk.template() {
            StorageTemplate::TcgEcc => Some(srk_to_token(srk).map_err(Failure::BareTpm)?),
            StorageTemplate::SystemdEcc | StorageTemplate::SystemdRsa => None,
        };
        Ok(self.token(object, pin, token_srk))
    }

    /// The PCRs whose values must be known.
    pub(super) const fn exact(&self) -> Option<&PcrSelection> {
        self.exact.as_ref()
    }

    /// Under which storage key.
    pub(super) const fn template(&self) -> StorageTemplate {
        match self.srk {
            Srk::Systemd => StorageTemplate::SystemdEcc,
            Srk::SystemdRsa => StorageTemplate::SystemdRsa,
            Srk::Tcg => StorageTemplate::TcgEcc,
        }
    }

    /// For a person.
    pub(super) fn words(&self) -> String {
        let exact = self.exact.map(|pcrs| format!("the values of {pcrs}"));
        let signed = self
            .signed
            .as_ref()
            .map(|(key, pcrs)| format!("values of {pcrs} that the key {} approves", key.fingerprint()));
        let pin = self.pin.as_ref().map(|_| "a PIN".to_owned());
        let all: Vec<String> = [signed, exact, pin].into_iter().flatten().collect();
        format!("{}, under {}", all.join(" and "), self.template())
    }

    fn options(&self) -> SealOptions {
        SealOptions {
            parent: self.template(),
            form: match self.srk {
                Srk::Systemd | Srk::SystemdRsa => KeyForm::Explicit,
                Srk::Tcg => KeyForm::Default,
            },
            force_uninitialised: self.force,
            cap: None,
        }
    }

    fn token_pin(&self, stream: &mut Stream) -> Result<TokenPin, Failure> {
        Ok(match (&self.pin, self.srk) {
            (None, _) => TokenPin::None,
            (Some(_), Srk::Tcg) => TokenPin::Salted(stream.draw()?),
            (Some(_), Srk::Systemd | Srk::SystemdRsa) => TokenPin::Plain,
        })
    }

    fn conditions(&self, pin: TokenPin) -> Conditions<'_> {
        let salt = match pin {
            TokenPin::Salted(salt) => Some(PinSalt(salt)),
            TokenPin::None | TokenPin::Plain => None,
        };
        Conditions {
            exact: self.exact,
            signed: self.signed.as_ref().map(|(key, pcrs)| SignedPcrs {
                key,
                pcrs: *pcrs,
                signatures: self.signatures.as_ref(),
            }),
            pin: self.pin.as_ref().map(|pin| PinAuth { pin, salt }),
        }
    }

    fn token(&self, object: SealedObject, pin: TokenPin, srk: Option<Vec<u8>>) -> Tpm2Token {
        Tpm2Token {
            keyslot: KeyslotId::SEALED,
            blob: object.private_then_public,
            bank: self.bank,
            exact: self.exact,
            signed: self.signed.as_ref().map(|(key, pcrs)| TokenSigned {
                pcrs: *pcrs,
                key_pem: key.pem().to_vec(),
            }),
            pin,
            primary_alg: match object.primary_alg {
                PrimaryAlg::Ecc => volume::PrimaryAlg::Ecc,
                PrimaryAlg::Rsa => volume::PrimaryAlg::Rsa,
            },
            policy_hash: object.policy_hash,
            srk,
        }
    }
}

/// What was seen of a seal, for a person.
pub(super) const fn seen(read_back: Option<ReadBack>) -> &'static str {
    match read_back {
        Some(ReadBack::Compared) => "unsealed once and compared",
        Some(ReadBack::NotApprovedNow) => {
            "loaded once; not unsealed, since no signature approves of this machine's state"
        }
        None => "for a TPM that is not here: the device's first opening is the proof",
    }
}
