//! Asking a person for a secret: on the controlling terminal, without its echo, whatever standard input and output are.
//!
//! Owns: the echo, off from before the question until the answer is there or failed, or the program is ended by a signal
//! (Ctrl-C, Ctrl-\\, TERM, HUP), which then ends it as ever; and that what is typed is wiped.
//! Limits: one line of at most 4096 bytes; SIGKILL while somebody types leaves the terminal silent (`stty echo`). A program that
//! handles these signals itself, which none of ours does, must not ask here: outside of a question they have their default
//! action, and while somebody is asked they end it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    flag::register_conditional_default,
    iterator::{Handle, Signals},
    low_level::emulate_default_handler,
};
use zeroize::Zeroizing;

/// The longest line that is typed, in bytes.
const MAX_LINE: usize = 4096;

/// Why nobody was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The process has no controlling terminal.
    #[error("there is no terminal to ask on")]
    NoTerminal,
    /// It has one, which fails.
    #[error("the terminal fails")]
    Terminal(#[source] io::Error),
}

/// What somebody types after `prompt`, without the line end.
///
/// # Errors
/// [`AskError`].
pub fn ask(prompt: &str) -> Result<Zeroizing<Vec<u8>>, AskError> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let mut terminal = terminal.map_err(|_| AskError::NoTerminal)?;
    let typed = silent(&terminal)
        .and_then(|_echo| {
            terminal.write_all(prompt.as_bytes())?;
            line(&mut terminal)
        })
        .map_err(AskError::Terminal)?;
    let _gone = terminal.write_all(b"\n");
    Ok(typed)
}

fn line(terminal: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    // Enough from the start: a growing vector would leave copies behind.
    let mut typed = Zeroizing::new(Vec::with_capacity(MAX_LINE));
    let mut byte = Zeroizing::new([0]);
    while typed.len() < MAX_LINE && terminal.read(&mut *byte)? == 1 {
        if byte.as_slice() == b"\n" {
            break;
        }
        typed.extend_from_slice(byte.as_slice());
    }
    Ok(typed)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Silent {
    terminal: File,
    before: Termios,
    // Last: whoever ends the program while the terminal is given its echo back finds it with echo.
    _watch: Watch,
}

fn silent(terminal: &File) -> io::Result<Silent> {
    let before = tcgetattr(terminal)?;
    let watch = Watch::begin(terminal.try_clone()?, before.clone())?;
    let mut now = before.clone();
    now.local_modes.remove(LocalModes::ECHO);
    let silent = Silent {
        terminal: terminal.try_clone()?,
        before,
        _watch: watch,
    };
    tcsetattr(terminal, OptionalActions::Flush, &now)?;
    Ok(silent)
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _gone = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Signals that end a program that does not handle them: by the keyboard, by `kill`, by a terminal that goes away.
const ENDING: [i32; 4] = [SIGINT, SIGQUIT, SIGTERM, SIGHUP];

/// Whether such a signal has its default action: at all times but while somebody is asked. `None`: nobody was asked yet.
static DEFAULT: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

/// Gives the terminal its echo back before a signal ends the program, until this is dropped.
struct Watch {
    default: Arc<AtomicBool>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn begin(mut terminal: File, before: Termios) -> io::Result<Self> {
        let ending = heeded();
        let default = default_action(&ending)?;
        let mut signals = Signals::new(&ending)?;
        let handle = signals.handle();
        default.store(false, Ordering::SeqCst);
        let mut watch = Self {
            default,
            handle,
            thread: None,
        };
        let thread = thread::Builder::new().spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let _gone = tcsetattr(&terminal, OptionalActions::Flush, &before);
                let _gone = terminal.write_all(b"\n");
                // Does not come back: each of them ends the program.
                let _ended = emulate_default_handler(signal);
            }
        })?;
        watch.thread = Some(thread);
        Ok(watch)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.default.store(true, Ordering::SeqCst);
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Registers the default action, once. A signal that has once been handled would else be passed over ever after.
fn default_action(ending: &[i32]) -> io::Result<Arc<AtomicBool>> {
    let mut known = DEFAULT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(default) = &*known {
        return Ok(Arc::clone(default));
    }
    let default = Arc::new(AtomicBool::new(true));
    for signal in ending {
        register_conditional_default(*signal, Arc::clone(&default))?;
    }
    *known = Some(Arc::clone(&default));
    Ok(default)
}

/// Those that are not ignored, as SIGHUP is under nohup (proc_pid_status(5), `SigIgn`).
fn heeded() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    without(ignored.unwrap_or_default())
}

fn without(ignored: u64) -> Vec<i32> {
    let bit = |signal: i32| {
        u32::try_from(signal - 1)
            .ok()
            .and_then(|nth| 1_u64.checked_shl(nth))
    };
    let mut ending = ENDING.to_vec();
    ending.retain(|signal| bit(*signal).is_some_and(|bit| ignored & bit == 0));
    ending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_stays_ignored() {
        assert_eq!(without(0), ENDING);
        assert_eq!(without(1), [SIGINT, SIGQUIT, SIGTERM], "nohup: SIGHUP is 1");
        assert_eq!(without(0x4003), [SIGQUIT]);
    }
}
