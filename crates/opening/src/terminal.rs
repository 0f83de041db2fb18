//! Asking a person for a secret: on the controlling terminal, without its echo, whatever standard input and output are.
//!
//! Owns: the echo, off from before the question until the answer is there or failed, and that what is typed is wiped.
//! Limits: one line of at most 4096 bytes; who is killed while somebody types leaves the terminal silent (`stty echo`).

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
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
}

fn silent(terminal: &File) -> io::Result<Silent> {
    let before = tcgetattr(terminal)?;
    let mut now = before.clone();
    now.local_modes.remove(LocalModes::ECHO);
    tcsetattr(terminal, OptionalActions::Flush, &now)?;
    Ok(Silent {
        terminal: terminal.try_clone()?,
        before,
    })
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _gone = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
