//! One machine: firmware, TPM, disks, and a kernel image on the disk that it boots from.
//!
//! Owns: QEMU, from start to end, and everything that a boot leaves behind: the console's words and the results. There is no network and no
//! `-kernel`. Each boot has a folder of its own, in which `serial.log` stays.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::arch::{Arch, SecureBoot};
use crate::error::VmError;
use crate::guest::{Console, Verb};
use crate::run::succeed;
use crate::swtpm::TpmState;

/// How long a boot may take: some 15 s where nothing else runs, minutes on busy processors. A machine that hangs is what it is for.
const PATIENCE: Duration = Duration::from_secs(600);
/// What firmware says when it starts nothing.
const REFUSALS: [&str; 2] = ["Access Denied", "Security Violation"];
/// Bytes for results; an event log has some 30 KiB.
const OUT: u64 = 8 << 20;

/// A machine before it boots.
#[derive(Debug)]
pub struct Machine<'a> {
    /// Its kind.
    pub arch: Arch,
    /// Whether its firmware verifies.
    pub secure_boot: SecureBoot,
    /// The image that it boots.
    pub image: &'a Path,
    /// Its TPM.
    pub tpm: &'a TpmState,
    /// Its data disks by name. Written to only by the machine.
    pub disks: &'a [(&'static str, &'a Path)],
    /// What it is asked.
    pub job: &'a [Verb],
}

/// What a boot left.
#[derive(Debug)]
pub struct Boot {
    /// What it said.
    pub console: Console,
    /// Its results: `binary_bios_measurements`, `dmesg`, `quote/`.
    pub results: PathBuf,
    /// From power on to power off.
    pub took: Duration,
}

impl Boot {
    /// The firmware's event log, if the machine came so far.
    ///
    /// # Errors
    /// [`VmError::File`].
    pub fn event_log(&self) -> Result<Vec<u8>, VmError> {
        let path = self.results.join("binary_bios_measurements");
        fs::read(&path).map_err(VmError::file(&path))
    }
}

impl Machine<'_> {
    /// Boots it and waits until it powers off, or the firmware refuses the image. `folder` is made anew.
    ///
    /// # Errors
    /// QEMU or swtpm cannot run; the machine takes too long.
    pub fn boot(&self, folder: &Path) -> Result<Boot, VmError> {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(VmError::file(folder))?;
        }
        let esp = folder.join("esp/EFI/BOOT");
        fs::create_dir_all(&esp).map_err(VmError::file(&esp))?;
        let image = esp.join(self.arch.boot_file());
        // A link costs nothing; QEMU only reads it.
        fs::hard_link(self.image, &image)
            .or_else(|_| fs::copy(self.image, &image).map(drop))
            .map_err(VmError::file(&image))?;
        let variables = folder.join("variables.fd");
        fs::copy(self.arch.variables(self.secure_boot), &variables).map_err(VmError::file(&variables))?;
        let (job, out) = (folder.join("job"), folder.join("out"));
        let mut text: String = self.job.iter().map(|verb| format!("{verb}\n")).collect();
        text.push_str(&"\0".repeat(text.len().next_multiple_of(512).max(512) - text.len()));
        fs::write(&job, text).map_err(VmError::file(&job))?;
        let file = File::create(&out).map_err(VmError::file(&out))?;
        file.set_len(OUT).map_err(VmError::file(&out))?;

        // A path to a socket has at most 107 bytes.
        let sockets = tempfile::tempdir().map_err(VmError::file("a folder for sockets"))?;
        let socket = sockets.path().join("tpm");
        let tpm = self.tpm.for_machine(&socket, &folder.join("swtpm.log"))?;
        let serial = folder.join("serial.log");
        let began = Instant::now();
        let mut qemu = self.start(folder, &socket)?;
        let ended = wait(&mut qemu, &serial);
        drop(qemu);
        drop(tpm);
        ended?;

        let console = Console::new(&fs::read(&serial).unwrap_or_default());
        let results = folder.join("results");
        fs::create_dir(&results).map_err(VmError::file(&results))?;
        if console.done() {
            succeed(Command::new("tar").arg("-xf").arg(&out).arg("-C").arg(&results))?;
        }
        for large in [&variables, &out, &image] {
            fs::remove_file(large).map_err(VmError::file(large))?;
        }
        Ok(Boot {
            console,
            results,
            took: began.elapsed(),
        })
    }

    fn start(&self, folder: &Path, socket: &Path) -> Result<Qemu, VmError> {
        let (program, machine) = self.arch.qemu();
        let mut command = Command::new(program);
        let at = |name: &str| folder.join(name).display().to_string();
        command
            .args(machine)
            .args(["-m", "768", "-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-nic", "none", "-no-reboot"])
            .args(["-serial", &format!("file:{}", at("serial.log"))])
            .args(["-drive", &flash(0, self.arch.firmware(), true)])
            .args(["-drive", &flash(1, &at("variables.fd"), false)])
            .args(["-chardev", &format!("socket,id=tpm,path={}", socket.display())])
            .args(["-tpmdev", "emulator,id=tpm0,chardev=tpm"])
            .args(["-device", &format!("{},tpmdev=tpm0", self.arch.tpm_device())])
            .args(["-device", "virtio-rng-pci"])
            .args([
                "-drive",
                &format!("if=none,id=esp,format=raw,file=fat:rw:{}", at("esp")),
            ])
            .args(["-device", "virtio-blk-pci,drive=esp,serial=esp,bootindex=0"]);
        let mut disk = |name: &str, path: &Path| {
            // A comma in a path would begin an option.
            let path = path.display().to_string().replace(',', ",,");
            command
                .args(["-drive", &format!("if=none,id={name},format=raw,file={path}")])
                .args(["-device", &format!("virtio-blk-pci,drive={name},serial={name}")]);
        };
        disk("job", &folder.join("job"));
        disk("out", &folder.join("out"));
        for (name, path) in self.disks {
            disk(name, path);
        }
        let said = folder.join("qemu.log");
        let log = File::create(&said).map_err(VmError::file(&said))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command
            .spawn()
            .map_err(|why| VmError::Start(program.to_owned(), why))?;
        Ok(Qemu { child, said })
    }
}

fn flash(unit: u8, file: &str, readonly: bool) -> String {
    let readonly = if readonly { "on" } else { "off" };
    let file = file.replace(',', ",,");
    format!("if=pflash,format=raw,unit={unit},readonly={readonly},file={file}")
}

/// A running QEMU; ended when dropped.
struct Qemu {
    child: Child,
    said: PathBuf,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Until it powers off, or its firmware has refused.
fn wait(qemu: &mut Qemu, serial: &Path) -> Result<(), VmError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = qemu.child.try_wait().map_err(VmError::file("qemu"))? {
            if status.success() {
                return Ok(());
            }
            return Err(VmError::Failed {
                program: "qemu".to_owned(),
                status: status.to_string(),
                words: fs::read_to_string(&qemu.said).unwrap_or_default(),
            });
        }
        let said = fs::read(serial).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        if REFUSALS.iter().any(|refusal| said.contains(refusal)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let last: String = said.chars().rev().take(1_000).collect();
            let last: String = last.chars().rev().collect();
            return Err(VmError::TooLong {
                what: format!(
                    "the machine of {}, whose last words are {last:?},",
                    serial.display()
                ),
                limit: PATIENCE,
            });
        }
        sleep(Duration::from_millis(100));
    }
}
