//! The demo's processes and its folder, and their end.
//!
//! Owns: every process that the demo starts, each with a log file, and the temporary folder with all their state. Both end with the demo, also
//! when it is interrupted, unless `--keep` asked otherwise. Refuses: to touch a process that it did not start.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::demo::DemoError;

/// How long a program may take until it says that it is ready: loading a model on a busy machine is the slowest.
const PATIENCE: Duration = Duration::from_secs(120);
const GLANCE: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct Yard {
    folder: PathBuf,
    processes: Processes,
    keep: bool,
}

type Processes = Arc<Mutex<Vec<Process>>>;

struct Process {
    name: String,
    child: Child,
}

impl Yard {
    /// Makes the folder, and sees to it that an interrupt cleans up.
    pub(crate) fn open(keep: bool) -> Result<Self, DemoError> {
        let folder = tempfile::Builder::new()
            .prefix("signalbox-demo-")
            .tempdir()
            .map_err(|why| DemoError::Folder("a temporary folder".to_owned(), why))?
            .keep();
        let processes = Processes::default();
        let (on_interrupt, its_folder) = (Arc::clone(&processes), folder.clone());
        let handler = move || {
            clean(&on_interrupt, &its_folder);
            std::process::exit(130);
        };
        ctrlc::set_handler(handler)
            .map_err(|why| DemoError::Other(format!("cannot watch for interrupts: {why}")))?;
        Ok(Self {
            folder,
            processes,
            keep,
        })
    }

    /// The folder with all state.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a process of that name writes its log.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Starts a program whose stdout and stderr go to its log, and waits until `ready` says something about it.
    pub(crate) fn start<T>(
        &self,
        name: &str,
        mut command: Command,
        ready: impl Fn(&str) -> Option<T>,
    ) -> Result<T, DemoError> {
        let path = self.log(name);
        let failed = |why| DemoError::Start(name.to_owned(), why);
        let log = File::create(&path).map_err(failed)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            // An interrupt at the terminal is for the demo, which then ends its processes in order.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        self.lock().push(Process {
            name: name.to_owned(),
            child,
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = std::fs::read_to_string(&path).unwrap_or_default();
            if let Some(found) = ready(&said) {
                return Ok(found);
            }
            if !self.lives(name) || Instant::now() > deadline {
                let tail: Vec<&str> = said.lines().rev().take(5).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(DemoError::NotReady(name.to_owned(), tail));
            }
            sleep(GLANCE);
        }
    }

    /// Process ids, for a person who keeps them running.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.lock().iter().map(|process| process.child.id()).collect()
    }

    fn lives(&self, name: &str) -> bool {
        let mut processes = self.lock();
        let process = processes.iter_mut().find(|process| process.name == name);
        process.is_some_and(|process| matches!(process.child.try_wait(), Ok(None)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        if !self.keep {
            clean(&self.processes, &self.folder);
        }
    }
}

/// Ends what was started, the last first, and removes the folder. What cannot be ended has ended already.
fn clean(processes: &Processes, folder: &Path) {
    let mut processes = processes.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(mut process) = processes.pop() {
        let _ended = process.child.kill();
        let _reaped = process.child.wait();
    }
    let _removed = std::fs::remove_dir_all(folder);
}

/// The address in the line `ready: ADDRESS`, as our own programs print it.
pub(crate) fn ready_line(said: &str) -> Option<String> {
    let mut whole = said
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'));
    whole
        .find_map(|line| line.strip_prefix("ready: "))
        .map(str::to_owned)
}

/// A free port on loopback, with `more` free ones after it. Somebody else may take it before it is used; then that program says so.
pub(crate) fn free_port(more: u16) -> Result<u16, DemoError> {
    for _ in 0..200 {
        let Ok(listener) = TcpListener::bind("127.0.0.1:0") else {
            continue;
        };
        let Ok(port) = listener.local_addr().map(|address| address.port()) else {
            continue;
        };
        let rest = (1..=more).all(|step| {
            port.checked_add(step)
                .is_some_and(|next| TcpListener::bind(("127.0.0.1", next)).is_ok())
        });
        if rest {
            return Ok(port);
        }
    }
    Err(DemoError::Other("no free port on loopback".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_line_counts_once_it_is_whole() {
        assert_eq!(
            ready_line("loading\nready: http://127.0.0.1:80\n"),
            Some("http://127.0.0.1:80".to_owned())
        );
        assert_eq!(ready_line("ready: http://127.0.0.1:8"), None);
        assert_eq!(ready_line("not ready: soon\n"), None);
        assert_eq!(ready_line(""), None);
    }

    #[test]
    fn ports_are_free_together() {
        let port = free_port(1).unwrap();
        assert!(
            TcpListener::bind(("127.0.0.1", port)).is_ok()
                && TcpListener::bind(("127.0.0.1", port + 1)).is_ok()
        );
    }
}
