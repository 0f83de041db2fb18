//! The command line.
//!
//! Owns: names, help and what is wrong use (exit 2, by clap). No secret is ever an argument: the pre-shared key comes out
//! of the sealed volume alone, a PIN out of a file or from the terminal.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use domain::VolumeKeyDigest;

use crate::closing::Extend;

const ASK_EXAMPLES: &str = "\
Examples:
  edge-client ask \"Which platform does the train to Bern leave from?\"
  edge-client ask --model smollm2:135m --json - < question.txt";

const QUOTE_EXAMPLES: &str = "\
Examples:
  edge-client quote --challenge --target /api/chat --body chat.json > headers
  edge-client quote --nonce $(openssl rand -hex 32) --out evidence && cd evidence
  tpm2_checkquote -u ak.pub -m quote.msg -s quote.sig -f quote.pcrs \\
      -l sha256:7,11 -q $(cat qualifying-data)";

const UNLOCK_EXAMPLES: &str = "\
Example, in an initramfs; the header is copied first, so that what was checked is what is opened:
  truncate -s \"$(blockdev --getsize64 /dev/vda)\" /run/header
  dd if=/dev/vda of=/run/header bs=1M count=16 conv=notrunc
  edge-client unlock --volume /run/header --volume-key-digest \"$(cat /etc/volume-key-digest)\" |
      cryptsetup open --disable-external-tokens --key-file - --header /run/header /dev/vda device
Without --disable-external-tokens cryptsetup asks the TPM itself, and believes any header that opens.
A volume with a PIN, where no terminal is at hand:
  systemd-ask-password \"PIN of the volume:\" | edge-client unlock --pin-file - | cryptsetup open …";

/// Ask a language model behind attest-proxy as a device that proves what it is.
///
/// The device's pre-shared key is in a volume that only this device's TPM opens; each session begins with a quote of
/// that TPM. Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 refused.
#[derive(Debug, Parser)]
#[command(name = "edge-client", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print one JSON object on stdout instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say on stderr what is being done
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where volume, TPM, proxy and model are; each is taken from the configuration unless given here.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Configuration: TOML with `volume`, and optionally `tcti`, `otp-nvmem`, `proxy`, `model`, `event-log`, `image-statement`, `volume-key-digest`, `rollback-counter`, `tpm2-signature`, `extend-pcr`, and `storage-keys` [default: /etc/signalbox/edge.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Device and proxy")]
    pub(crate) config: Option<PathBuf>,
    /// The device's sealed volume: a file or a block device; or the folder where it is mounted
    #[arg(long, global = true, value_name = "FILE", help_heading = "Device and proxy")]
    pub(crate) volume: Option<PathBuf>,
    /// SHA-256 of the key of the device's own volume, as the registry has it; another volume is refused
    #[arg(long, global = true, value_name = "HEX", help_heading = "Device and proxy")]
    pub(crate) volume_key_digest: Option<VolumeKeyDigest>,
    /// The TPM, as tpm2-tools name it: device:/dev/tpmrm0, swtpm:host=127.0.0.1,port=2321
    #[arg(long, global = true, value_name = "TCTI", help_heading = "Device and proxy")]
    pub(crate) tcti: Option<String>,
    /// What approves of PCR values (systemd's tpm2-pcr-signature.json), for a volume that is sealed to a signed policy [default: the first in /etc/systemd, /run/systemd, /usr/local/lib/systemd, /usr/lib/systemd]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Device and proxy")]
    pub(crate) tpm2_signature: Option<PathBuf>,
    /// A file or pipe with the volume's PIN, if it wants one; `-` is stdin, /dev/fd/3 a descriptor [default: ask on the terminal]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Device and proxy")]
    pub(crate) pin_file: Option<PathBuf>,
    /// The proxy, instead of the one that the volume names: https://HOST[:PORT], or http:// on loopback
    #[arg(long, global = true, value_name = "URL", help_heading = "Device and proxy")]
    pub(crate) proxy: Option<String>,
    /// The model to ask, such as smollm2:135m
    #[arg(long, global = true, value_name = "NAME", help_heading = "Device and proxy")]
    pub(crate) model: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask a question and print the answer as it comes
    #[command(after_help = ASK_EXAMPLES)]
    Ask(Ask),
    /// Make a quote, for one request by hand or to look at
    ///
    /// Prints the four headers that go with the request, one a line, as `curl -H @FILE` takes them; the pre-shared key is
    /// not among them. The quote fits exactly this method, target and body, once, for 60 seconds.
    #[command(after_help = QUOTE_EXAMPLES)]
    Quote(Quote),
    /// Write the passphrase of the volume's keyslot to a pipe, for cryptsetup to open it with
    ///
    /// Only after the TPM released the secret and the volume's header proved to be the one that was made with it. Needs a
    /// pipe: nothing is written to a terminal or a file.
    #[command(after_help = UNLOCK_EXAMPLES)]
    Unlock(Unlock),
    /// Say in plain words what works: TPM, volume, proxy, clock, policy
    ///
    /// Each check stands on those before it; the last one opens a session, and asks for nothing in it.
    Doctor,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Ollama's two ways to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Api {
    /// POST /api/chat
    Chat,
    /// POST /api/generate
    Generate,
}

#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// The question; `-` reads it from stdin
    #[arg(required = true, value_name = "QUESTION")]
    pub(crate) question: Vec<String>,
    /// Which of Ollama's interfaces to ask
    #[arg(long, value_enum, default_value_t = Api::Chat)]
    pub(crate) api: Api,
    /// Most tokens that the answer may have (Ollama's num_predict)
    #[arg(long, value_name = "TOKENS")]
    pub(crate) max_tokens: Option<u32>,
    /// Send the pre-shared key alone, without a quote, to see how that is refused
    #[arg(long)]
    pub(crate) no_evidence: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub(crate) struct Quote {
    /// The nonce to answer: 64 hexadecimal digits
    #[arg(long, value_name = "HEX", group = "source")]
    pub(crate) nonce: Option<String>,
    /// Ask the proxy for a nonce
    #[arg(long, group = "source")]
    pub(crate) challenge: bool,
    /// Method of the one request that the quote is for
    #[arg(long, default_value = "POST")]
    pub(crate) method: String,
    /// Target of the request: path and query
    #[arg(long, default_value = "/api/chat")]
    pub(crate) target: String,
    /// File with the body of the request, `-` for stdin [default: no body]
    #[arg(long, value_name = "FILE")]
    pub(crate) body: Option<PathBuf>,
    /// Also write headers, quote.msg, quote.sig, quote.pcrs, qualifying-data and ak.pub into a new folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Unlock {
    /// Extend this PCR afterwards, also when the volume does not open: nothing that is sealed to it can be unsealed until the
    /// next boot. For a volume of an OTP device key, lock that key. `none` leaves the way open [default: 15, or `extend-pcr`]
    #[arg(long, value_name = "PCR")]
    pub(crate) extend: Option<Extend>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
