//! Asking on a real terminal: nothing of what is typed is shown, and the echo comes back, whether somebody answers or ends the
//! program in the middle of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "test code"
)]

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::ffi::OsStrExt as _,
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

const CANARY: &str = "canary-2468";

/// What the other tests run, each on a terminal of its own.
#[test]
#[ignore = "started by the other tests, on a terminal"]
fn asks() {
    let typed = opening::terminal::ask(&format!("PIN of {}: ", std::process::id())).unwrap();
    println!("answered {}", *typed == CANARY.as_bytes());
    let again = opening::terminal::ask("again: ").unwrap();
    println!("answered {}", *again == b"more");
    println!("busy");
    thread::sleep(Duration::from_secs(60));
}

/// A program on a terminal of which the test holds the other end.
struct Terminal {
    master: File,
    said: Arc<Mutex<String>>,
    child: Child,
}

impl Terminal {
    fn start() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let side = || {
            let path = std::ffi::OsStr::from_bytes(name.as_bytes());
            OpenOptions::new().read(true).write(true).open(path).unwrap()
        };
        // The shell outlives what it starts, and tells how that ended.
        let script = "trap : INT QUIT; \"$0\" --exact asks --ignored --nocapture; echo \"ended $?\"";
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", "sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("setsid of the Debian package util-linux");
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&said);
        thread::spawn(move || {
            let mut room = [0; 1024];
            while let Ok(n) = reader.read(&mut room) {
                heard
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&room[..n]));
            }
        });
        Self { master, said, child }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn waits_for(&self, text: &str) -> String {
        self.until(text, |said| said.contains(text))
    }

    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let said = self.said();
            if holds(&said) {
                return said;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no {what}: {said}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn echoes(&self) -> bool {
        let modes = tcgetattr(&self.master).unwrap().local_modes;
        modes.contains(LocalModes::ECHO)
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the first question; the process that asks it.
    fn asked(&self) -> Pid {
        let is_whole = |said: &str| {
            said.split("PIN of ")
                .nth(1)
                .is_some_and(|rest| rest.contains(": "))
        };
        let said = self.until("question", is_whole);
        assert!(!self.echoes(), "while it asks");
        let id = said.split("PIN of ").nth(1).unwrap();
        let id = id.split(':').next().unwrap();
        Pid::from_raw(id.parse().unwrap()).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[test]
fn an_answer_is_not_shown_and_the_echo_comes_back() {
    let mut terminal = Terminal::start();
    terminal.asked();
    terminal.types(&format!("{CANARY}\n"));
    terminal.waits_for("answered true");
    terminal.waits_for("again: ");
    terminal.types("more\n");
    let said = terminal.waits_for("busy");
    assert!(terminal.echoes());
    assert!(!said.contains(CANARY) && !said.contains("more"), "{said}");
    assert_eq!(said.matches("answered true").count(), 2, "{said}");
    // Who was asked ends by Ctrl-C as ever.
    terminal.types("\u{3}");
    terminal.waits_for("ended 130");
}

#[test]
fn a_key_that_ends_the_program_gives_the_echo_back() {
    for (key, code) in [("\u{3}", "ended 130"), ("\u{1c}", "ended 131")] {
        let mut terminal = Terminal::start();
        terminal.asked();
        terminal.types("canary");
        terminal.types(key);
        let said = terminal.waits_for(code);
        assert!(terminal.echoes(), "{code}");
        assert!(!said.contains("canary"), "{said}");
    }
}

#[test]
fn a_second_question_is_watched_too() {
    let mut terminal = Terminal::start();
    terminal.asked();
    terminal.types(&format!("{CANARY}\n"));
    terminal.waits_for("again: ");
    assert!(!terminal.echoes());
    terminal.types("\u{3}");
    terminal.waits_for("ended 130");
    assert!(terminal.echoes());
}

#[test]
fn a_signal_from_elsewhere_gives_the_echo_back() {
    for (signal, code) in [(Signal::TERM, "ended 143"), (Signal::HUP, "ended 129")] {
        let terminal = Terminal::start();
        let asks = terminal.asked();
        kill_process(asks, signal).unwrap();
        terminal.waits_for(code);
        assert!(terminal.echoes(), "{code}");
    }
}
