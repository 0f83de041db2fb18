//! Power is taken away after each write; nothing but no header or a whole volume may be left.

use std::sync::Mutex;

use super::*;
use crate::{
    inspect, open, open_with_recovery_key,
    sink::crashes::{Failing, Recorder},
    testing::{Keys, SIZE, entropy, image, keys, volume},
};

/// All that [`write`] does with one output, on another medium than a file.
fn lay(sink: &dyn Sink, image: &Image, keys: &Keys) -> Result<(), CreateError> {
    let volume = volume(keys);
    let data_len = SIZE - DATA_OFFSET;
    let composed = compose::compose(&volume, data_len, image.len(), &mut entropy(3))?;
    clear(sink).map_err(CreateError::Write)?;
    let leaves = Leaves::default();
    let lane = Lane::new(
        sink,
        (DATA_OFFSET, data_len),
        volume.options.cipher,
        volume.options.sector_size,
        volume.volume_key,
    );
    let lanes = [lane];
    stream::encrypt(image, &lanes, Some(&leaves), &Meter::new(&(), data_len))?;
    let [lane] = lanes;
    lane.finish()?;
    finish(sink, &composed, &volume, Some(&leaves))
}

/// What the volume holds, opened in both ways.
fn content(disk: &[u8], keys: &Keys) -> [u8; 8] {
    let mut text = [0; 8];
    let sealed = open(disk.to_vec(), &keys.secret).unwrap();
    sealed.read_data(0, &mut text).unwrap();
    let recovered = open_with_recovery_key(disk.to_vec(), &keys.recovery).unwrap();
    assert!(sealed.is_authenticated() && recovered.is_authenticated());
    text
}

#[test]
fn killed_at_any_byte_there_is_no_header_or_a_whole_volume() {
    let (old, new) = (keys(1), keys(2));
    let first = Recorder::new(vec![0; usize::try_from(SIZE).unwrap()]);
    lay(&first, &image(b"the old!"), &old).unwrap();
    let second = Recorder::new(first.bytes());
    lay(&second, &image(b"the new!"), &new).unwrap();
    let (before, after) = (first.bytes(), second.bytes());
    assert_eq!(content(&before, &old), *b"the old!");
    assert_eq!(content(&after, &new), *b"the new!");
    let start = usize::try_from(binary::DEFAULT_SIZE * 2).unwrap();
    let (mut none, mut olds, mut news) = (0, 0, 0);
    let states = second.each_crash(|disk, what| {
        let Ok(header) = inspect(disk) else {
            none += 1;
            return;
        };
        // Keyslots and data are compared byte for byte; which headers there are is what the crash decides.
        if disk[start..] == before[start..] {
            olds += 1;
        } else {
            assert!(
                disk[start..] == after[start..],
                "{what}: a header over something half"
            );
            news += 1;
        }
        assert_eq!(header.label(), "crashes");
    });
    assert_eq!(states, none + olds + news);
    assert!(
        none > 100 && olds > 5 && news > 3,
        "{none} without a header, {olds} old, {news} new"
    );
}

#[test]
fn a_medium_that_fails_is_an_error_at_every_call_and_never_half_a_volume() {
    let new = keys(2);
    let mut calls = 0;
    loop {
        let medium = Recorder::new(vec![0; usize::try_from(SIZE).unwrap()]);
        let failing = Failing {
            inner: &medium,
            left: Mutex::new(calls),
        };
        let done = lay(&failing, &image(b"the new!"), &new);
        if done.is_ok() {
            break;
        }
        assert!(matches!(done, Err(CreateError::Write(_))), "{done:?}");
        // Only the very last sync may fail over a volume that is whole.
        let disk = medium.bytes();
        if inspect(&disk).is_ok() {
            assert_eq!(content(&disk, &new), *b"the new!");
        }
        calls += 1;
    }
    assert!(
        calls >= 11,
        "{calls} calls: wipe, four pieces of data, keyslots, headers and their syncs"
    );
}

#[test]
fn a_second_writer_is_refused_before_it_looks_while_the_first_one_writes() {
    use std::os::fd::AsRawFd as _;
    let (one, two) = (keys(1), keys(2));
    let target = tempfile::tempfile_in("/dev/shm").unwrap();
    let again = File::options()
        .read(true)
        .write(true)
        .open(format!("/proc/self/fd/{}", target.as_raw_fd()))
        .unwrap();
    let output = |target, keys| Output {
        target,
        volume: volume(keys),
        entropy: Box::leak(Box::new(entropy(3))),
    };
    let seconds = Mutex::new(Vec::new());
    // In the middle of the first one's data.
    let progress = |_, _| {
        let mut seconds = seconds.lock().unwrap();
        if seconds.is_empty() {
            seconds.extend(write(&image(b"the new!"), vec![output(&again, &two)], &()));
        }
        std::ops::ControlFlow::Continue(())
    };
    write(&image(b"the old!"), vec![output(&target, &one)], &progress)
        .remove(0)
        .unwrap();
    let refused = seconds.into_inner().unwrap();
    assert!(
        matches!(
            refused.as_slice(),
            [Err(CreateError::Target(TargetError::Locked))]
        ),
        "{refused:?}"
    );
    let mut disk = vec![0; usize::try_from(SIZE).unwrap()];
    std::os::unix::fs::FileExt::read_exact_at(&target, &mut disk, 0).unwrap();
    assert_eq!(content(&disk, &one), *b"the old!");
    // The lock went with the writer, though its file is open still.
    write(&image(b"the new!"), vec![output(&again, &two)], &())
        .remove(0)
        .unwrap();
}
