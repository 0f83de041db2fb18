//! Words of a command line that give a shell, or run another program first.
//!
//! Owns: the list, from the manuals kernel-command-line(7), systemd(1), systemd-debug-generator(8), dracut.cmdline(7),
//! initramfs-tools(7) and the kernel's `kernel-parameters`. It is a list of what is known, not a proof that nothing else does so;
//! a policy that wants that pins the whole command line.

/// Words that ask for a shell with any value but a false one, or with none.
const SWITCHES: [&str; 15] = [
    "systemd.debug_shell",
    "rd.systemd.debug_shell",
    "systemd.crash_shell",
    "rd.systemd.crash_shell",
    "systemd.confirm_spawn",
    "rd.systemd.confirm_spawn",
    "rd.shell",
    "rdshell",
    "kgdbwait",
    "rd.rescue",
    "rescue",
    "emergency",
    "systemd.break",
    "rd.systemd.break",
    "bootconfig",
];
/// Words that do so with any value at all, false ones too, or with none.
const ALWAYS: [&str; 13] = [
    "rd.break",
    "rdbreak",
    "break",
    "systemd.run",
    "rd.systemd.run",
    "systemd.set_credential",
    "systemd.set_credential_binary",
    "kgdboc",
    "kgdbcon",
    "ekgdboc",
    "kgdboc.kgdboc",
    "kgdbdbgp",
    "rd.cmdline",
];
/// Words that do so without a value: runlevels as systemd and SysV init have them.
const BARE: [&str; 7] = ["single", "s", "S", "-s", "1", "-b", "rd.emergency"];
const FALSE: [&str; 6] = ["0", "no", "n", "off", "false", "f"];
const UNITS: [&str; 4] = ["debug-shell", "emergency", "rescue", "runlevel1"];
/// Where distributions have the first program, and its links.
const INITS: [&str; 6] = [
    "/init",
    "/sbin/init",
    "/usr/sbin/init",
    "/bin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
];
/// Where NixOS has it, under a name of its own in each version.
const STORE: &str = "/nix/store/";

pub(super) fn asks_for_a_shell(word: &str) -> bool {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    // The kernel and systemd take dashes for underscores; a leading dash belongs to the word.
    let (dash, rest) = name.split_at(usize::from(name.starts_with('-')));
    let name = format!("{dash}{}", rest.replace('-', "_"));
    let is_false = value.is_some_and(|v| FALSE.contains(&v.to_ascii_lowercase().as_str()));
    match (name.as_str(), value) {
        // What the kernel does not know goes to the first program: systemd has options of the same meanings, and takes
        // short ones together and long ones cut.
        _ if word.starts_with("--") && word.contains(char::is_alphanumeric) => true,
        (name, None) if dash == "-" && name.contains(['b', 's']) => true,
        (name, _) if ALWAYS.contains(&name) => true,
        (name, _) if SWITCHES.contains(&name) => !is_false,
        (name, None) => BARE.contains(&name),
        // Any first program but the usual ones.
        ("init" | "rdinit", Some(path)) => !INITS.contains(&path) && !in_store(path),
        ("systemd.unit" | "rd.systemd.unit" | "systemd.wants" | "rd.systemd.wants", Some(unit)) => {
            UNITS.iter().any(|name| unit.starts_with(name))
        }
        ("systemd.setenv" | "rd.systemd.setenv", Some(variable)) => {
            variable.starts_with("SYSTEMD_SULOGIN_FORCE")
        }
        ("SYSTEMD_SULOGIN_FORCE", Some(_)) => true,
        _ => false,
    }
}

fn in_store(path: &str) -> bool {
    let mut parts = path.strip_prefix(STORE).unwrap_or_default().split('/');
    parts.clone().next_back() == Some("init") && parts.all(|part| part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_are_known() {
        for word in [
            "rd.break",
            "rd.break=pre-mount",
            "break",
            "break=premount",
            "init=/bin/sh",
            "init=/bin/bash",
            "rdinit=/bin/sh",
            "init=",
            "systemd.debug_shell",
            "systemd.debug-shell",
            "systemd.debug-shell=1",
            "systemd.debug_shell=tty9",
            "rd.systemd.debug_shell=yes",
            "rd.shell",
            "rd.shell=1",
            "single",
            "S",
            "s",
            "1",
            "-s",
            "-b",
            "emergency",
            "rescue",
            "rd.emergency",
            "systemd.unit=rescue.target",
            "rd.systemd.unit=emergency.target",
            "systemd.wants=debug-shell.service",
            "systemd.run=/bin/sh",
            "systemd.set-credential=passwd.plaintext-password.root:x",
            "systemd.confirm_spawn=yes",
            "systemd.crash_shell",
            "systemd.setenv=SYSTEMD_SULOGIN_FORCE=1",
            "SYSTEMD_SULOGIN_FORCE=1",
            "kgdboc=ttyS0",
            "kgdboc.kgdboc=ttyS0",
            "systemd.break=pre-mount",
            "rd.systemd.break",
            "rd.cmdline=ask",
            "bootconfig",
            "systemd.unit=runlevel1.target",
            "--unit=rescue.target",
            "--un=emergency.target",
            "--crash-shell",
            "-Ds",
            "init=/home/kiosk/init",
            "init=/tmp/systemd",
            "init=/nix/store/../../home/init",
            "rdinit=/bin/init2",
        ] {
            assert!(asks_for_a_shell(word), "{word}");
        }
    }

    #[test]
    fn ordinary_words_are_let_through() {
        for word in [
            "quiet",
            "ro",
            "root=UUID=0a3407de",
            "init=/usr/lib/systemd/systemd",
            "init=/sbin/init",
            "init=/nix/store/0a3407-nixos-system-kiosk-25.05/init",
            "rdinit=/init",
            "--",
            "---",
            "rd.shell=0",
            "systemd.debug_shell=no",
            "rd.emergency=halt",
            "systemd.unit=multi-user.target",
            "systemd.wants=kiosk.service",
            "3",
            "console=ttyS0",
            "systemd.setenv=LANG=C",
            "breakout=1",
            "/vmlinuz-single",
            "BOOT_IMAGE=/vmlinuz",
        ] {
            assert!(!asks_for_a_shell(word), "{word}");
        }
    }
}
