//! Programs that run to their end.
//!
//! Owns: that a failure carries the program's last words, and that nothing of the caller's input reaches a child.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::error::VmError;

/// How much of what a failed program said is kept, in bytes.
const LAST_WORDS: usize = 4_000;

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` for a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What else it said.
    pub stderr: String,
}

/// Runs a program, whatever its exit code.
///
/// # Errors
/// [`VmError::Start`].
pub fn run(command: &mut Command) -> Result<Ended, VmError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|why| VmError::Start(name(command), why))?;
    Ok(Ended {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a program to success; returns what it printed.
///
/// # Errors
/// [`VmError::Start`], [`VmError::Failed`].
pub fn succeed(command: &mut Command) -> Result<Vec<u8>, VmError> {
    let ended = run(command)?;
    match ended.code {
        Some(0) => Ok(ended.stdout),
        code => Err(failed(command, code, &ended.stdout, &ended.stderr)),
    }
}

/// Runs a program to success and gives it `input`; returns what it printed.
///
/// # Errors
/// [`VmError::Start`], [`VmError::Failed`].
pub fn filter(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, VmError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|why| VmError::Start(name(command), why))?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // A program that does not read its input to the end says why on stderr.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input)));
        child.wait_with_output()
    });
    let output = output.map_err(|why| VmError::Start(name(command), why))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        let words = String::from_utf8_lossy(&output.stderr);
        Err(failed(command, output.status.code(), &[], &words))
    }
}

fn failed(command: &Command, code: Option<i32>, stdout: &[u8], stderr: &str) -> VmError {
    let said = format!("{}{stderr}", String::from_utf8_lossy(stdout));
    let from = said.len().saturating_sub(LAST_WORDS);
    VmError::Failed {
        program: name(command),
        status: code.map_or("a signal".to_owned(), |code| format!("exit code {code}")),
        words: String::from_utf8_lossy(said.as_bytes().get(from..).unwrap_or_default()).into_owned(),
    }
}

fn name(command: &Command) -> String {
    let first = command.get_args().next().unwrap_or_default();
    format!(
        "{} {}",
        command.get_program().to_string_lossy(),
        first.to_string_lossy()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_code_and_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo why >&2; exit 7"]);
        assert_eq!(run(&mut command).unwrap().code, Some(7));
        let text = succeed(&mut command).unwrap_err().to_string();
        assert!(text.contains("exit code 7") && text.contains("why"), "{text}");
    }

    #[test]
    fn input_goes_in_and_output_comes_out() {
        assert_eq!(filter(&mut Command::new("cat"), b"abc").unwrap(), b"abc");
        let big = vec![b'x'; 1 << 20];
        assert!(filter(Command::new("sh").args(["-c", "exit 3"]), &big).is_err());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let text = run(&mut Command::new("no-such-program")).unwrap_err().to_string();
        assert!(
            text.contains("no-such-program") && text.contains("ci/setup"),
            "{text}"
        );
    }
}
