//! The sections of a policy's evidence as they are written.

use domain::{HashAlg, PcrIndex, ProfileName, Sha256Digest, UnixTime};
use evidence::{CommandLinePattern, ImageKey, KeyVariable, Release, SetName};

use crate::walk::{Entries, Spot, section};

section! {
    /// What a quote must show: at least one of pcrs, golden, statement and log; all that are there hold together.
    EvidenceSection as "evidence" {
        /// The PCR bank (sha256 when absent).
        optional "bank" bank: HashAlg,
        /// Exact values, the same for every device at all times: PCR index to hexadecimal digest.
        optional "pcrs" pcrs: Entries<PcrIndex, String>,
        /// Golden sets by name, all over the same PCRs; a device fits one of them.
        optional "golden" golden: Entries<SetName, GoldenSection>,
        /// A signed image statement says what the PCRs hold.
        optional "statement" statement: StatementSection,
        /// Rules on the boot's event log.
        optional "log" log: LogSection,
        /// Take values that are all zero or all ones, which is what nothing has measured into.
        optional "allow-uninitialised" allow_uninitialised: bool,
        /// Must be true beside bank = "sha1": whoever can make SHA-1 collide can choose what such PCRs seem to hold.
        optional "allow-sha1" allow_sha1: bool,
    }
}

section! {
    /// The PCR values of one good state, during a roll-out one of several.
    GoldenSection as "golden-set" {
        /// The first moment at which the set is no longer good, as in 2026-12-01T00:00:00Z (never when absent).
        optional "until" until: UnixTime,
        /// The values: PCR index to hexadecimal digest.
        required "pcrs" pcrs: Entries<PcrIndex, String>,
        /// What was measured, in order: PCR index to digests; a refusal then names the event that differs.
        optional "events" events: Entries<PcrIndex, Vec<Spot<String>>>,
    }
}

section! {
    /// Which image statements are believed.
    StatementSection as "image-statement" {
        /// The public image keys, ECDSA P-256, as PEM: one, or two while the fleet changes over.
        required "keys" keys: Vec<Spot<ImageKey>>,
        /// The profile whose image it must be, as the statement names it.
        required "profile" profile: ProfileName,
        /// The oldest release that is still good; raising it ages old images out.
        required "least-release" least_release: Release,
        /// The PCRs that the statement must be about.
        required "pcrs" pcrs: Vec<Spot<PcrIndex>>,
        /// Digests of statements that are no longer good, whatever their release.
        optional "revoked" revoked: Vec<Spot<Sha256Digest>>,
    }
}

section! {
    /// What must be true of the boot, shown by an event log that replays to the quoted PCRs.
    LogSection as "log-rules" {
        /// Secure Boot is on, nothing of it in debug mode, and shim verifies too (PCR 7).
        optional "secure-boot" secure_boot: bool,
        /// The good values of PK, KEK, db and dbx: tail -c +5 /sys/firmware/efi/efivars/db-* | sha256sum (PCR 7).
        optional "keys" keys: Entries<KeyVariable, Vec<Spot<Sha256Digest>>>,
        /// What may have let boot loaders start: SHA-256 of the variables in PCR 7 behind its separator.
        optional "authorities" authorities: Vec<Spot<Sha256Digest>>,
        /// Each kernel command line fits one: * within a word, ? one character, ** any words (PCRs 8 and 12).
        optional "command-line" command_line: Vec<Spot<CommandLinePattern>>,
        /// No command line asks for a shell or another first program (PCRs 8 and 12).
        optional "no-debug-shell" no_debug_shell: bool,
        /// More PCRs to which the log must replay.
        optional "replays" replays: Vec<Spot<PcrIndex>>,
    }
}
