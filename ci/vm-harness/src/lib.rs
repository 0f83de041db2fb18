//! Virtual machines that boot as a device does: UEFI with Secure Boot, a signed kernel image, a TPM that measures it.
//!
//! Owns: everything between Debian's packages and an answer from inside the machine: kernel and initramfs ([`initramfs`]), the unified kernel
//! image ([`uki`]), its signature, firmware, software TPM and QEMU ([`machine`]), and the provisioning of such a machine from outside
//! ([`factory`]). [`scenario`] has what must hold; `ci/vm` runs it.
//! Refuses: to boot with `-kernel`, which QEMU neither verifies nor measures; anything that is not from Debian's mirror or this repository; to
//! skip where a tool is missing. Processes are ended by the handle that started them.
//! No attacker here: it plays him. Nothing secret is printed: a key that a machine reads leaves it as a digest.
//! Limits today: emulation (`accel=tcg`), two architectures; our own programs run on x86-64 only.

pub mod arch;
pub mod cpio;
pub mod debian;
pub mod elf;
pub mod error;
pub mod factory;
pub mod guest;
pub mod initramfs;
pub mod machine;
pub mod modules;
pub mod run;
pub mod scenario;
pub mod signing;
pub mod swtpm;
pub mod uki;
pub mod yard;
