//! The command line of `provisioner evidence`.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER_PERMISSIVE;
use domain::{HashAlg, PcrIndex, PcrSelection, PolicyName};
use tpm::Tcti;

#[derive(Debug, Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Judge a quote: who signed it, what it is bound to, what it says
    #[command(after_help = CHECK_HELP)]
    Check(CheckArgs),
    /// Show an event log: what the firmware and boot loaders say that they measured, and the PCRs that follow from it
    #[command(after_help = LOG_HELP)]
    Log {
        /// The log, as the kernel shows it in /sys/kernel/security/tpm0/binary_bios_measurements
        file: PathBuf,
        /// Print YAML with the field names of tpm2_eventlog
        #[arg(long, conflicts_with = "json")]
        yaml: bool,
    },
    /// Follow an EK certificate up to a maker's root, or to where the chain breaks; fetches nothing
    #[command(after_help = EK_HELP)]
    Ek(EkArgs),
    /// Read a device's PCRs and write them as a policy for the manifest, with what was measured beside each
    #[command(after_help = GOLDEN_HELP)]
    Golden(GoldenArgs),
}

const CHECK_HELP: &str = "\
Every check is listed as ok, FAILED or not checked, with the reason; the verdict claims no more than was checked. Whether \
the key is an enrolled device's, and whether the quote is newer than the last one, no file can tell.

Exit codes: 0 attested, as far as was checked; 1 a file cannot be read; 2 not evidence at all, or wrong use; 3 refused.

Example, with stock tools on the device:
  tpm2_quote -c 0x81010020 -l sha256:0,2,4,7 -q 5d0c1a77 -m quote -s quote.sig -o quote.pcrs
  tpm2_readpublic -c 0x81010020 -f tss -o ak.pub
and here:
  provisioner evidence check --ak ak.pub --quote quote --signature quote.sig --pcrs quote.pcrs \\
    --nonce 5d0c1a77 --event-log binary_bios_measurements --policy kiosk.toml";

const LOG_HELP: &str = "\
Reads the TCG 2.0 format (crypto-agile) and the older SHA-1 format. A log is its firmware's word: it proves something only \
where it replays to a good quote, and an event's type never. See `evidence check --event-log`.

Exit codes: 0 shown; 1 the file cannot be read; 2 not an event log.";

const EK_HELP: &str = "\
Exit codes: 0 the chain ends at a root of the folder; 1 a file cannot be read; 2 not a certificate; 3 the chain breaks, or \
the certificate is for another key than --ek.";

const GOLDEN_HELP: &str = "\
Run it against a device that is in the state that you want all of them in. The snippet goes to stdout:
  provisioner evidence golden --name kiosk > kiosk.toml

Exit codes: 0 written; 1 the TPM or a file cannot be read; 2 wrong use; 3 nothing was measured into a PCR.";

/// A quote and all that it is checked against.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The attestation key: TPM2B_PUBLIC or TPMT_PUBLIC, or PEM, which leaves its attributes unknown
    #[arg(long, value_name = "FILE")]
    pub(crate) ak: PathBuf,
    /// The EK that the key is a child of (TPM2B_PUBLIC or TPMT_PUBLIC): tells the signer that the quote must name
    #[arg(long, value_name = "FILE", conflicts_with = "qualified_name")]
    pub(crate) ek: Option<PathBuf>,
    /// The signer that the quote must name, instead of --ek
    #[arg(long, value_name = "HEX")]
    pub(crate) qualified_name: Option<Hex>,
    /// The quote (TPMS_ATTEST, or TPM2B_ATTEST), as `tpm2_quote -m` writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) quote: PathBuf,
    /// The signature (TPMT_SIGNATURE, or plain), as `tpm2_quote -s` writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: PathBuf,
    /// The PCR values, one after the other in the order of the selection, or as `tpm2_quote -o` writes them
    #[arg(long, value_name = "FILE")]
    pub(crate) pcrs: PathBuf,
    #[command(flatten)]
    pub(crate) nonce: NonceArgs,
    /// The event log that explains the PCRs; it must replay to every one that is quoted, or that the policy's rules are about
    #[arg(long, value_name = "FILE")]
    pub(crate) event_log: Option<PathBuf>,
    /// The signed image statement that the device sent, for a policy that wants one
    #[arg(long, value_name = "FILE", requires = "policy")]
    pub(crate) image_statement: Option<PathBuf>,
    /// What the PCRs must hold: `[policies.NAME.evidence]` of a manifest; golden sets end by this machine's clock
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Believe SHA-1, in the quoted bank and under an RSASSA signature
    #[arg(long)]
    pub(crate) allow_sha1: bool,
}

/// What the quote must be bound to.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct NonceArgs {
    /// The nonce that was sent, where it went into the quote as it is (`tpm2_quote -q`)
    #[arg(long, value_name = "HEX")]
    pub(crate) nonce: Option<Hex>,
    /// What the quote is bound to, where it was computed from a nonce and more, as Signalbox does
    #[arg(long, value_name = "HEX")]
    pub(crate) qualifying_data: Option<Hex>,
}

/// A certificate and who may vouch for it.
#[derive(Debug, Args)]
pub(crate) struct EkArgs {
    /// The EK certificate, DER or PEM, or what the TPM's NV index holds
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: PathBuf,
    /// A folder of makers' certificates, DER or PEM: the self-signed ones are trusted, the others help to reach them
    #[arg(long, value_name = "DIR")]
    pub(crate) roots: PathBuf,
    /// The TPM's EK (TPM2B_PUBLIC or TPMT_PUBLIC): the certificate must be for this key
    #[arg(long, value_name = "FILE")]
    pub(crate) ek: Option<PathBuf>,
    /// Let makers' old CAs sign intermediates over SHA-1; never the EK certificate itself
    #[arg(long)]
    pub(crate) allow_sha1: bool,
}

/// A device to take as the pattern.
#[derive(Debug, Args)]
pub(crate) struct GoldenArgs {
    /// The device's TPM: device:/dev/tpmrm0, swtpm:host=HOST,port=PORT
    #[arg(long, value_name = "TCTI", default_value = "device:/dev/tpmrm0")]
    pub(crate) tcti: Tcti,
    /// The PCRs
    #[arg(long, value_name = "BANK:LIST", default_value = "sha256:0,2,4,7,11")]
    pub(crate) pcrs: Pcrs,
    /// The event log [default: the kernel's, where the TPM is this machine's]
    #[arg(long, value_name = "FILE")]
    pub(crate) event_log: Option<PathBuf>,
    /// The policy that the snippet is for
    #[arg(long, value_name = "POLICY", default_value = "device")]
    pub(crate) name: PolicyName,
    /// Take PCRs into which nothing was measured; any machine can show such values
    #[arg(long)]
    pub(crate) allow_uninitialised: bool,
}

/// Bytes in hexadecimal, at least one.
#[derive(Debug, Clone)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl FromStr for Hex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        match HEXLOWER_PERMISSIVE.decode(digits.as_bytes()) {
            Ok(bytes) if !bytes.is_empty() => Ok(Self(bytes)),
            _ => Err("an even number of hexadecimal digits, at least two".to_owned()),
        }
    }
}

/// A selection as tpm2-tools write it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pcrs(pub(crate) PcrSelection);

impl FromStr for Pcrs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "one bank and its PCRs, for example sha256:0,2,4,7".to_owned();
        let (bank, list) = text.split_once(':').ok_or_else(wanted)?;
        let bank: HashAlg = match bank {
            "sha256" => HashAlg::Sha256,
            "sha384" => HashAlg::Sha384,
            "sha1" => HashAlg::Sha1,
            _ => return Err(wanted()),
        };
        let indices = list.split(',').map(|one| {
            one.trim()
                .parse::<u64>()
                .ok()
                .and_then(|n| PcrIndex::try_from(n).ok())
        });
        let indices: Option<Vec<PcrIndex>> = indices.collect();
        PcrSelection::new(bank, indices.ok_or_else(wanted)?)
            .map_err(|error| error.to_string())
            .map(Self)
    }
}
