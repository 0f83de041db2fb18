//! `provisioner volume` and `provisioner inventory` on the command line.
//!
//! Owns: the words of their help, and that no secret has a place in an argument: PINs, recovery keys and passphrases are
//! asked for on the terminal or come from files, `-` being standard input.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use domain::{DeviceId, VolumeKeyDigest};
use tpm::Tcti;

use super::{
    generation::GenerationArgs,
    values::{Bank, Cipher, PcrList, Sector, Size, Srk},
};

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Write encrypted volumes with the content of a folder or an image, sealed to a TPM or to OTP fuses
    Create(Box<CreateArgs>),
    /// Show what a volume's header says; needs no TPM and no key
    Info {
        /// The volume
        file: PathBuf,
    },
    /// List the files in a volume
    Ls(LsArgs),
    /// Print a file out of a volume, for example /psk: mind who is watching
    Cat(CatArgs),
    /// Read all of a volume and say whether it is whole: exit code 0 if it is, 1 if not
    Verify(VerifyArgs),
    /// Seal a volume anew, to new PCRs, another policy or another PIN; the old way in is destroyed
    Reseal(Box<ResealArgs>),
    /// Open a volume with its recovery key and seal it to the TPM at hand
    Recover(Box<RecoverArgs>),
}

/// What opens a volume. Unless it is said, the volume's own tokens say it.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Opening")]
pub(crate) struct OpenArgs {
    /// The TPM that opens it [default: device:/dev/tpmrm0]
    #[arg(long, value_name = "TCTI")]
    pub(crate) tcti: Option<Tcti>,
    /// Open with this machine's OTP device key (Raspberry Pi)
    #[arg(long, conflicts_with = "tcti")]
    pub(crate) otp: bool,
    /// The raw OTP key's file, for a firmware without cryptography
    #[arg(long, value_name = "FILE")]
    pub(crate) otp_nvmem: Option<PathBuf>,
    /// A file with the PIN, `-` for standard input [default: ask on the terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) pin_file: Option<PathBuf>,
    /// What approves of PCR values (systemd's tpm2-pcr-signature.json), for signed policies
    #[arg(long, value_name = "FILE")]
    pub(crate) pcr_signature: Option<PathBuf>,
    /// A file with the recovery key, `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tcti", "otp"])]
    pub(crate) recovery_key_file: Option<PathBuf>,
    /// A file with a passphrase, `-` for standard input; nothing authenticates the header then
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tcti", "otp", "recovery_key_file"])]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Open a volume that another tool enrolled: nothing proves that it is the one that was made
    #[arg(long)]
    pub(crate) unauthenticated: bool,
}

/// To what a secret is sealed in a TPM.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Sealing")]
pub(crate) struct SealArgs {
    /// PCRs that must stay as they are, for example 7,11
    #[arg(long, value_name = "LIST")]
    pub(crate) seal_pcrs: Option<PcrList>,
    /// The bank of all PCRs here
    #[arg(long, value_name = "BANK", default_value = "sha256")]
    pub(crate) seal_bank: Bank,
    /// The key (PEM) whose holder approves of PCR values: an update then needs no new seal
    #[arg(long, value_name = "FILE")]
    pub(crate) seal_public_key: Option<PathBuf>,
    /// The PCRs of which that key approves
    #[arg(long, value_name = "LIST", default_value = "11", requires = "seal_public_key")]
    pub(crate) seal_public_key_pcrs: PcrList,
    /// Want a PIN too, asked for on the terminal
    #[arg(long)]
    pub(crate) pin: bool,
    /// Want a PIN too, out of this file, `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "pin")]
    pub(crate) new_pin_file: Option<PathBuf>,
    /// Under which storage key: systemd 252 (Debian 12) opens its own alone, later ones prefer the TCG's
    #[arg(long, value_name = "KIND", default_value = "systemd-252")]
    pub(crate) srk: Srk,
    /// Seal to PCRs into which nothing was measured, which protects nothing
    #[arg(long)]
    pub(crate) force_uninitialised_pcrs: bool,
}

impl SealArgs {
    /// Whether anything says to what is to be sealed.
    pub(crate) const fn says(&self) -> bool {
        self.seal_pcrs.is_some() || self.seal_public_key.is_some() || self.pin || self.new_pin_file.is_some()
    }
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["content", "image"])))]
pub(crate) struct CreateArgs {
    /// Where the volumes go: new files, or block devices that hold nothing
    #[arg(required = true, value_name = "TARGET")]
    pub(crate) targets: Vec<PathBuf>,
    /// A folder whose content goes in, as ext4; read once for all targets
    #[arg(long, value_name = "DIR")]
    pub(crate) content: Option<PathBuf>,
    /// A file system image that goes in as it is
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    /// Keep the owners of the folder's files; else they become root's
    #[arg(long, requires = "content")]
    pub(crate) keep_owners: bool,
    /// The size of each volume, such as 512MiB [default: what the content needs]
    #[arg(long, value_name = "SIZE")]
    pub(crate) size: Option<Size>,
    /// The cipher of the data: adiantum for processors without AES instructions (Raspberry Pi 4)
    #[arg(long, value_name = "CIPHER", default_value = "aes-xts")]
    pub(crate) cipher: Cipher,
    /// The sectors of the data, in bytes
    #[arg(long, value_name = "BYTES", default_value = "4096")]
    pub(crate) sector_size: Sector,
    /// Text for people in the header
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) label: String,
    /// Keep a MAC of the content, for volumes that are only read: `verify` then notices every changed sector
    #[arg(long)]
    pub(crate) authenticate_content: bool,
    /// Derive all randomness from this file of 32 bytes or more: the same seed, the same bytes. Whoever has it opens the volume
    #[arg(long, value_name = "FILE")]
    pub(crate) seed_reproducible: Option<PathBuf>,
    /// Say what would be written and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The device that a target is for, one for each target [default: the target's name up to its first dot]
    #[arg(long = "device", value_name = "ID")]
    pub(crate) devices: Vec<DeviceId>,
    #[command(flatten)]
    pub(crate) seal: SealArgs,
    /// The TPM that the volumes are for [default: device:/dev/tpmrm0]
    #[arg(long, value_name = "TCTI", conflicts_with_all = ["srk_public", "otp"])]
    pub(crate) tcti: Option<Tcti>,
    /// What `inventory collect` wrote on the device: seal to its TPM, which is not here. One for all targets, or one for each
    #[arg(long, value_name = "FILE", conflicts_with = "otp")]
    pub(crate) srk_public: Vec<PathBuf>,
    /// What approves of PCR values (systemd's tpm2-pcr-signature.json): lets the seal be tried out
    #[arg(long, value_name = "FILE", requires = "seal_public_key")]
    pub(crate) pcr_signature: Option<PathBuf>,
    /// Seal with this machine's OTP device key instead of a TPM (Raspberry Pi)
    #[arg(long, conflicts_with_all = ["seal_pcrs", "seal_public_key", "pin", "new_pin_file"])]
    pub(crate) otp: bool,
    /// The raw OTP key's file, for a firmware without cryptography
    #[arg(long, value_name = "FILE", requires = "otp")]
    pub(crate) otp_nvmem: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) generation: GenerationArgs,
    #[command(flatten)]
    pub(crate) escrow: EscrowArgs,
}

/// Who can open the volume when its TPM does not.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Recovery")]
pub(crate) struct EscrowArgs {
    /// Make a recovery key and encrypt it to this age key; may be given several times
    #[arg(long, value_name = "age1…")]
    pub(crate) escrow_to: Vec<String>,
    /// Where the encrypted recovery key goes [default: TARGET.recovery.age]
    #[arg(long, value_name = "FILE", requires = "escrow_to")]
    pub(crate) escrow_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// The volume
    pub(crate) file: PathBuf,
    /// The folder in it
    #[arg(default_value = "/")]
    pub(crate) path: String,
    /// What is in its folders too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    /// The volume
    pub(crate) file: PathBuf,
    /// The path in it, for example /device.toml
    pub(crate) path: String,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The volume
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ResealArgs {
    /// The volume
    pub(crate) file: PathBuf,
    /// The device that the escrow file names [default: the volume's name up to its first dot]
    #[arg(long, value_name = "ID", requires = "escrow_to")]
    pub(crate) device: Option<DeviceId>,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    #[command(flatten)]
    pub(crate) seal: SealArgs,
    #[command(flatten)]
    pub(crate) generation: GenerationArgs,
    /// Makes a new recovery key, the old one is destroyed; with nothing of "Sealing" the seal stays as it is
    #[command(flatten)]
    pub(crate) escrow: EscrowArgs,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("key").required(true).args(["identity", "recovery_key_file"])))]
pub(crate) struct RecoverArgs {
    /// The volume
    pub(crate) file: PathBuf,
    /// The keeper's age identity file (`age-keygen`), `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// The encrypted recovery key [default: VOLUME.recovery.age]
    #[arg(long, value_name = "FILE", requires = "identity")]
    pub(crate) escrow_file: Option<PathBuf>,
    /// A file with the recovery key itself, `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_key_file: Option<PathBuf>,
    /// Make a new recovery key and encrypt it to this age key; the old one is destroyed. May be given several times
    #[arg(long, value_name = "age1…", conflicts_with = "no_reseal")]
    pub(crate) escrow_to: Vec<String>,
    /// The volume key's digest as the registry has it, for a header without a MAC of the recovery key
    #[arg(long, value_name = "SHA-256")]
    pub(crate) volume_key: Option<VolumeKeyDigest>,
    /// Print the recovery key: mind who is watching
    #[arg(long)]
    pub(crate) show: bool,
    /// Only see whether the key opens the volume; seal nothing
    #[arg(long)]
    pub(crate) no_reseal: bool,
    /// The TPM to seal to [default: device:/dev/tpmrm0]
    #[arg(long, value_name = "TCTI")]
    pub(crate) tcti: Option<Tcti>,
    /// What approves of PCR values (systemd's tpm2-pcr-signature.json): lets the seal be tried out
    #[arg(long, value_name = "FILE")]
    pub(crate) pcr_signature: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) seal: SealArgs,
    #[command(flatten)]
    pub(crate) generation: GenerationArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum InventoryCommand {
    /// Print what a factory must know of this TPM to seal volumes to it: keys, Names, maker, PCR values. No secret
    Collect(CollectArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    /// The TPM
    #[arg(long, value_name = "TCTI", default_value = "device:/dev/tpmrm0")]
    pub(crate) tcti: Tcti,
    /// Write the JSON here, for `volume create --srk-public`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}
