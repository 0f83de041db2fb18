//! The way of lines to stderr, or to wherever the log goes: a bounded heap and a thread that writes it.
//!
//! Owns: that nobody who logs ever waits for who reads. Lines that a reader is too slow for are dropped and counted, and a line says so where
//! they are missing. Lines about requests may fill [`ROOM`]; what the program has to say beside them has [`SPARE`] of its own.
//! Refuses: to cut a line, or to put one inside another.
//! Limits today: a killed process takes what has gathered with it, which is what came within [`gather::EVERY`](crate::gather::EVERY)
//! unless the reader is slow.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use crate::gather::{Gather, Haste};

/// Bytes of lines about requests that may wait.
const ROOM: usize = 1 << 20;
/// Bytes of other lines that may wait beside them.
const SPARE: usize = 64 << 10;
/// A heap that was larger is not kept for the next lines, in bytes.
const KEPT: usize = 256 << 10;
/// Between two attempts to write where it was said that nothing can be taken at the moment.
const RETRY: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(3600);

/// Takes lines.
#[derive(Clone)]
pub(crate) struct Outlet {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    gather: Gather<Heap>,
    lost: AtomicU64,
}

#[derive(Default)]
struct Heap {
    text: Vec<u8>,
    /// Lines that had no room after `text`.
    lost: u64,
    /// Who waits until all of it is written.
    waiting: Vec<SyncSender<()>>,
}

impl Outlet {
    /// Starts the thread. `tell` writes the line that says how many are missing.
    pub(crate) fn start(
        to: impl Write + Send + 'static,
        tell: impl Fn(&mut Vec<u8>, u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("log".into())
            .spawn(move || of_thread.run(to, tell))?;
        Ok(Self { shared })
    }

    /// Takes a line about a request, with its end.
    pub(crate) fn line(&self, line: &[u8]) {
        self.put(line, ROOM, Haste::None);
    }

    /// Waits until what was logged before is written; false: not in this time.
    pub(crate) fn flush(&self, patience: Duration) -> bool {
        let (told, done) = sync_channel(1);
        let asked = self.shared.gather.put(Haste::Now, |heap| heap.waiting.push(told));
        asked.is_some() && done.recv_timeout(patience).is_ok()
    }

    /// Lines that were dropped since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    fn put(&self, line: &[u8], room: usize, haste: Haste) {
        let taken = self.shared.gather.put(haste, |heap| {
            // After a gap, lines about requests wait for the line that tells of it: their order stays.
            let gap = heap.lost > 0 && room == ROOM;
            let fits = !gap && heap.text.len().saturating_add(line.len()) <= room;
            if fits {
                heap.text.extend_from_slice(line);
            } else {
                heap.lost = heap.lost.saturating_add(1);
            }
            fits
        });
        if taken != Some(true) {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn run(&self, mut to: impl Write, tell: impl Fn(&mut Vec<u8>, u64)) {
        let mut heap = Heap::default();
        loop {
            self.gather.take(&mut heap, LONG);
            if heap.lost > 0 {
                tell(&mut heap.text, heap.lost);
            }
            let unwritten = write(&mut to, &heap.text);
            self.lost.fetch_add(unwritten, Ordering::Relaxed);
            for waiting in heap.waiting.drain(..) {
                // Who waits no longer needs no answer.
                let _ = waiting.try_send(());
            }
            heap.text.clear();
            heap.text.shrink_to(KEPT);
            heap.lost = 0;
        }
    }
}

/// Writes all of it, and says how many lines could not be written.
fn write(to: &mut impl Write, mut text: &[u8]) -> u64 {
    while !text.is_empty() {
        match to.write(text) {
            Ok(written) if written > 0 => text = text.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody else has made our stderr one that does not wait.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            // Nobody reads any more.
            Ok(_) | Err(_) => {
                return u64::try_from(memchr::memchr_iter(b'\n', text).count()).unwrap_or(u64::MAX);
            }
        }
    }
    0
}

/// What `tracing` writes: a line at a time, and at once.
impl Write for Outlet {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line, ROOM.saturating_add(SPARE), Haste::Now);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outlet")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// A reader that reads when it is told to.
    #[derive(Clone, Default)]
    struct Reader(Arc<State>);

    #[derive(Default)]
    struct State {
        awake: Mutex<bool>,
        bell: Condvar,
        text: Mutex<Vec<u8>>,
    }

    impl Reader {
        fn wake(&self) {
            *self.0.awake.lock().unwrap() = true;
            self.0.bell.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.text.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let awake = self.0.awake.lock().unwrap();
            drop(self.0.bell.wait_while(awake, |awake| !*awake).unwrap());
            let some = bytes.len().min(1000);
            self.0.text.lock().unwrap().extend_from_slice(&bytes[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn outlet(reader: &Reader) -> Outlet {
        Outlet::start(reader.clone(), |out, lost| {
            out.extend_from_slice(format!("lost {lost}\n").as_bytes());
        })
        .unwrap()
    }

    #[test]
    fn lines_come_whole_and_in_order_from_both_ways() {
        let reader = Reader::default();
        reader.wake();
        let mut outlet = outlet(&reader);
        let mut wanted = String::new();
        for nth in 0..2000 {
            let line = format!("line {nth}\n");
            wanted.push_str(&line);
            if nth % 3 == 0 {
                outlet.write_all(line.as_bytes()).unwrap();
            } else {
                outlet.line(line.as_bytes());
            }
        }
        assert!(Outlet::flush(&outlet, SOON));
        assert_eq!(reader.text(), wanted);
        assert_eq!(outlet.lost(), 0);
    }

    #[test]
    fn a_reader_that_stalls_holds_nobody_up_and_is_told_what_it_missed() {
        let reader = Reader::default();
        let mut outlet = outlet(&reader);
        let line = format!("{}\n", "x".repeat(1023));
        // The first heap is with the thread, which waits for the reader; the second one has room for 1,024 lines.
        outlet.line(b"first\n");
        while outlet.shared.gather.put(Haste::None, |heap| heap.text.len()) != Some(0) {
            thread::yield_now();
        }
        for _ in 0..3000 {
            outlet.line(line.as_bytes());
        }
        assert_eq!(outlet.lost(), 3000 - 1024);
        // A line that would fit does not jump the gap; what the program itself has to say is still heard.
        outlet.line(b"short\n");
        outlet.write_all(b"an alert\n").unwrap();
        assert!(!Outlet::flush(&outlet, Duration::ZERO));
        reader.wake();
        assert!(Outlet::flush(&outlet, SOON));
        outlet.line(b"later\n");
        assert!(Outlet::flush(&outlet, SOON));
        let text = reader.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + 1024 + 3);
        assert_eq!(lines[0], "first");
        assert_eq!(lines[1025..], ["an alert", "lost 1977", "later"]);
        assert_eq!(outlet.lost(), 1977);
    }

    #[test]
    fn a_reader_that_is_gone_is_counted_and_one_that_is_busy_is_asked_again() {
        struct Gone(bool);
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                let busy = std::mem::replace(&mut self.0, false);
                Err(if busy {
                    io::ErrorKind::WouldBlock
                } else {
                    io::ErrorKind::BrokenPipe
                }
                .into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let outlet = Outlet::start(Gone(true), |_, _| {}).unwrap();
        outlet.line(b"one\n");
        assert!(Outlet::flush(&outlet, SOON));
        assert_eq!(outlet.lost(), 1);
    }
}
