//! `volume ls` and `volume cat`: the files of a volume, decrypted in memory.
//!
//! What is printed by `cat` can be the pre-shared key: it goes from wiped memory to stdout and nowhere else.

use std::{io::Write as _, path::Path};

use serde_json::{Value, json};
use volume::{ListEntry, OpenVolume};

use super::{opening, unopened};
use crate::{
    cli::{CatArgs, LsArgs},
    failure::Failure,
    report::Reporter,
};

/// Most entries that are listed with `-R`.
const MAX_ENTRIES: usize = 1_000_000;
/// The deepest folder that is listed with `-R`.
const MAX_DEPTH: usize = 128;

pub(super) fn cat(args: &CatArgs, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let opened = opening::open(&args.file, &args.open, reporter)?;
    let data = opened
        .volume
        .read(&args.path)
        .map_err(|e| unopened(&args.file, e))?;
    let mut out = std::io::stdout().lock();
    out.write_all(&data)
        .and_then(|()| out.flush())
        .map_err(Failure::Output)
}

pub(super) fn ls(args: &LsArgs, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let opened = opening::open(&args.file, &args.open, reporter)?;
    let mut text = String::new();
    let mut entries = Vec::new();
    walk(&args.file, &opened.volume, args, &mut |folder, entry| {
        text.push_str(&format!(
            "{}{} {:>12} {}\n",
            if entry.is_dir { 'd' } else { '-' },
            permissions(entry.mode),
            entry.len,
            join(folder, &entry.name),
        ));
        entries.push(json!({
            "path": join(folder, &entry.name),
            "folder": entry.is_dir,
            "mode": format!("{:04o}", entry.mode & 0o7777),
            "bytes": entry.len,
        }));
    })?;
    reporter.data(&text, &Value::Array(entries))
}

fn walk(
    file: &Path,
    volume: &OpenVolume,
    args: &LsArgs,
    tell: &mut dyn FnMut(&str, &ListEntry),
) -> Result<(), Failure> {
    let mut folders = vec![(args.path.clone(), 0_usize)];
    let mut listed = 0_usize;
    while let Some((folder, depth)) = folders.pop() {
        let mut entries = volume.list(&folder).map_err(|e| unopened(file, e))?;
        entries.sort_unstable();
        let mut below = Vec::new();
        for entry in &entries {
            tell(&folder, entry);
            if args.recursive && entry.is_dir {
                below.push((join(&folder, &entry.name), depth.saturating_add(1)));
            }
        }
        listed = listed.saturating_add(entries.len());
        if listed > MAX_ENTRIES || depth > MAX_DEPTH {
            // A file system that somebody made to have no end.
            return Err(unopened(file, "its folders have no end"));
        }
        folders.extend(below.into_iter().rev());
    }
    Ok(())
}

fn join(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

/// As `ls -l` has them.
fn permissions(mode: u16) -> String {
    let bit = |shift: u16, letter: char| if mode >> shift & 1 == 1 { letter } else { '-' };
    let letters = [8, 7, 6, 5, 4, 3, 2, 1, 0].into_iter().zip("rwxrwxrwx".chars());
    letters.map(|(shift, letter)| bit(shift, letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_and_paths_are_written_as_ls_does() {
        assert_eq!(permissions(0o644), "rw-r--r--");
        assert_eq!(permissions(0o4751), "rwxr-x--x");
        assert_eq!(join("/", "psk"), "/psk");
        assert_eq!(join("/etc/", "x"), "/etc/x");
        assert_eq!(join("/etc", "x"), "/etc/x");
    }
}
