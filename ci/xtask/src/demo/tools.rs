//! Programs that run to their end: ours, and stock tools.
//!
//! Owns: running and reading them. Refuses: to put a device's key into arguments or environment; the demo never holds one.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};

use crate::demo::DemoError;

/// The folder with our own programs, beside this one.
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// Finds the folder in which this program is.
    pub(crate) fn find() -> Result<Self, DemoError> {
        let own = std::env::current_exe().map_err(|why| DemoError::Folder("this program".to_owned(), why))?;
        let folder = own.parent().map(Path::to_owned).unwrap_or_default();
        for name in ["provisioner", "attest-proxy", "edge-client", "model-server"] {
            if !folder.join(name).is_file() {
                return Err(DemoError::NotBuilt(name, folder));
            }
        }
        Ok(Self(folder))
    }

    /// One of our programs, ready to be given arguments.
    pub(crate) fn command(&self, name: &str) -> Command {
        Command::new(self.0.join(name))
    }

    /// Where it is, to show to a person.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Which of a program's two voices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    Stdout,
    Stderr,
}

/// Runs a program to its end, whichever it is.
pub(crate) fn run(command: &mut Command) -> Result<Ended, DemoError> {
    run_watching(command, |_, _| {})
}

/// The same, and hands on what it says as it says it.
pub(crate) fn run_watching(
    command: &mut Command,
    mut watch: impl FnMut(Voice, &str),
) -> Result<Ended, DemoError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |why| DemoError::Start(name.clone(), why);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (say, heard) = channel();
    // Each thread ends with its pipe, and the loop below with both.
    listen(Voice::Stdout, child.stdout.take(), say.clone());
    listen(Voice::Stderr, child.stderr.take(), say);
    let (mut stdout, mut stderr) = (String::new(), String::new());
    while let Ok((voice, text)) = heard.recv() {
        match voice {
            Voice::Stdout => stdout.push_str(&text),
            Voice::Stderr => stderr.push_str(&text),
        }
        watch(voice, &text);
    }
    let code = child.wait().map_err(failed)?.code();
    Ok(Ended { code, stdout, stderr })
}

fn listen(voice: Voice, pipe: Option<impl Read + Send + 'static>, say: Sender<(Voice, String)>) {
    let Some(mut pipe) = pipe else { return };
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            rest.extend_from_slice(buffer.get(..length).unwrap_or_default());
            // Whole characters only, since a chunk may end within one; and of stderr whole lines.
            let characters = match std::str::from_utf8(&rest) {
                Err(cut) if cut.error_len().is_none() => cut.valid_up_to(),
                _ => rest.len(),
            };
            let whole = match voice {
                Voice::Stdout => characters,
                Voice::Stderr => rest
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map_or(0, |at| at + 1),
            };
            let text = String::from_utf8_lossy(rest.get(..whole).unwrap_or_default()).into_owned();
            rest.drain(..whole);
            if say.send((voice, text)).is_err() {
                return;
            }
        }
        let _unheard = say.send((voice, String::from_utf8_lossy(&rest).into_owned()));
    });
}

/// Runs a program that must succeed, and returns its stdout.
pub(crate) fn succeed(command: &mut Command) -> Result<String, DemoError> {
    let ended = run(command)?;
    if ended.code == Some(0) {
        return Ok(ended.stdout);
    }
    let name = Path::new(command.get_program())
        .file_name()
        .map(OsStr::to_string_lossy)
        .unwrap_or_default();
    Err(DemoError::Failed(name.into_owned(), ended.code, ended.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_handed_on_and_kept() {
        let mut seen = String::new();
        let ended = run_watching(
            Command::new("sh").args(["-c", "printf 'ein wört'; echo oops >&2; exit 3"]),
            |voice, text| {
                if voice == Voice::Stdout {
                    seen.push_str(text);
                }
            },
        )
        .unwrap();
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
            (Some(3), "ein wört", "oops\n")
        );
        assert_eq!(seen, "ein wört");
    }

    #[test]
    fn a_failure_is_told_with_its_words() {
        let problem = succeed(Command::new("sh").args(["-c", "echo broken >&2; exit 1"])).unwrap_err();
        assert!(
            matches!(&problem, DemoError::Failed(name, Some(1), said) if name == "sh" && said == "broken\n"),
            "{problem}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        assert!(matches!(
            run(&mut Command::new("no-such-program-here")),
            Err(DemoError::Start(..))
        ));
    }
}
