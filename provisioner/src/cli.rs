//! The command line: what can be asked, and the words of its help.

mod evidence;
mod generation;
mod values;
mod volume;

use std::path::PathBuf;

use clap::{Args, ColorChoice, Parser, Subcommand};
use clap_complete::Shell;
use domain::{DeviceId, FleetName, Sha256Digest};
use tpm::Tcti;

pub(crate) use evidence::{CheckArgs, EkArgs, EvidenceCommand, GoldenArgs};
pub(crate) use generation::{CounterIndex, GenerationArgs, GenerationWish};
pub(crate) use values::{Cipher, PcrList, Sector, Size, Srk};
pub(crate) use volume::{
    CatArgs, CollectArgs, CreateArgs, InventoryCommand, LsArgs, OpenArgs, RecoverArgs, ResealArgs, SealArgs,
    VerifyArgs, VolumeCommand,
};

/// Enrols the devices of a fleet: seals a pre-shared key into each one's TPM-backed volume and registers what a proxy
/// needs to know it.
#[derive(Debug, Parser)]
#[command(
    name = "provisioner",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong use or invalid manifest, 3 refused by policy.\n\
                  Data goes to stdout, everything else to stderr."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to talk.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Print JSON: one object, or for `apply` one per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Show what the libraries have to say too
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a manifest and say everything that is wrong with it
    Validate {
        /// The fleet's manifest (TOML)
        manifest: PathBuf,
    },
    /// Show what `apply` would do, and what a quote of each device proves; changes nothing
    Plan(PlanArgs),
    /// Enrol the devices of a manifest. Running it again finishes what was interrupted
    Apply(ApplyArgs),
    /// List, show, suspend and resume registered devices
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Write sealed volumes, look into them, seal them anew, recover them: without root and without mounting
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Collect what a factory must know of a device's TPM
    #[command(subcommand)]
    Inventory(InventoryCommand),
    /// Look at evidence by hand: judge a quote, read an event log, follow an EK certificate, write a policy
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Print the JSON Schema of manifests
    Schema,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The fleet's manifest (TOML)
    pub(crate) manifest: PathBuf,
    /// Only this device; may be given several times
    #[arg(long = "device", value_name = "ID")]
    pub(crate) devices: Vec<DeviceId>,
    /// The TPM to use instead of the manifest's: device:/dev/tpmrm0, swtpm:host=HOST,port=PORT
    #[arg(long, value_name = "TCTI")]
    pub(crate) tcti: Option<Tcti>,
    /// A file with the PIN of the devices whose profile wants one, `-` for standard input [default: `apply` asks for each]
    #[arg(long, value_name = "FILE")]
    pub(crate) pin_file: Option<PathBuf>,
    /// What approves of PCR values (systemd's tpm2-pcr-signature.json), for profiles with `seal-signed`
    #[arg(long, value_name = "FILE")]
    pub(crate) pcr_signature: Option<PathBuf>,
    /// The raw OTP key's file, for a firmware without cryptography and profiles with `key-store = "otp"`
    #[arg(long, value_name = "FILE")]
    pub(crate) otp_nvmem: Option<PathBuf>,
    /// Where relative volume paths start [default: the manifest's folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
    /// Plan to overwrite a volume or a key that is in the way and not ours; `apply` then needs --confirm
    #[arg(long)]
    pub(crate) force: bool,
    /// Seal to PCRs into which nothing was measured, which protects nothing
    #[arg(long)]
    pub(crate) force_uninitialised_pcrs: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Show the plan and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Never ask: steps that cannot be undone are then refused without --confirm
    #[arg(long)]
    pub(crate) yes: bool,
    /// The digest of the plan that was read, for steps that cannot be undone
    #[arg(long, value_name = "PLAN-DIGEST")]
    pub(crate) confirm: Option<Sha256Digest>,
    // Last, because the heading of its registry options holds for what follows.
    #[command(flatten)]
    pub(crate) plan: PlanArgs,
}

/// How to reach the registry.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registry")]
pub(crate) struct RegistryArgs {
    /// The registry to use instead of the manifest's: sqlite:PATH or etcd://host:port[,host:port]
    #[arg(long, value_name = "URL")]
    pub(crate) registry: Option<String>,
    /// Authorities that may sign the certificate of etcd (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) registry_ca: Option<PathBuf>,
    /// Our certificate for etcd (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["registry_key", "registry_ca"])]
    pub(crate) registry_cert: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "registry_cert")]
    pub(crate) registry_key: Option<PathBuf>,
    /// The user for etcd
    #[arg(long, value_name = "NAME", requires = "registry_password_file")]
    pub(crate) registry_user: Option<String>,
    /// A file with that user's password
    #[arg(long, value_name = "FILE", requires = "registry_user")]
    pub(crate) registry_password_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// List the devices of a fleet
    List {
        #[command(flatten)]
        fleet: FleetArgs,
    },
    /// Show a device: its keys' digests, its state, when it was attested last, what its quotes prove
    Show {
        /// The device
        id: DeviceId,
        #[command(flatten)]
        fleet: FleetArgs,
    },
    /// Print what edge-client has to know on a device: its edge.toml, from registry and manifest
    Config(Box<ConfigArgs>),
    /// Refuse a device from now on; its sessions end
    Suspend {
        /// The device
        id: DeviceId,
        #[command(flatten)]
        fleet: FleetArgs,
    },
    /// Admit a suspended device again; it opens a new session
    Resume {
        /// The device
        id: DeviceId,
        #[command(flatten)]
        fleet: FleetArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The device
    pub(crate) id: DeviceId,
    /// Where the volume is on the device [default: the manifest's path]
    #[arg(long, value_name = "PATH")]
    pub(crate) volume: Option<PathBuf>,
    /// How the device reaches its TPM [default: the manifest's]
    #[arg(long, value_name = "TCTI")]
    pub(crate) tcti: Option<Tcti>,
    /// What `inventory collect` wrote on the device: pins its storage keys
    #[arg(long, value_name = "FILE")]
    pub(crate) srk_public: Option<PathBuf>,
    /// Where the TPM counts the volume's generations; a volume without one is then refused [default: the manifest's]
    #[arg(long, value_name = "NV-INDEX")]
    pub(crate) rollback_counter: Option<CounterIndex>,
    /// Where the device has what approves of PCR values, if not where systemd puts it
    #[arg(long, value_name = "PATH")]
    pub(crate) tpm2_signature: Option<PathBuf>,
    /// Write it here instead of printing it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
}

/// Which fleet: by its manifest, or by its name and registry.
#[derive(Debug, Args)]
pub(crate) struct FleetArgs {
    /// The fleet's manifest
    #[arg(long, value_name = "FILE", required_unless_present = "fleet")]
    pub(crate) manifest: Option<PathBuf>,
    /// The fleet's name, instead of a manifest
    #[arg(long, value_name = "NAME", conflicts_with = "manifest", requires = "registry")]
    pub(crate) fleet: Option<FleetName>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}
