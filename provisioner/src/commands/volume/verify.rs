//! `volume verify`: every byte of a volume read, and what was found said: exit code 0 where it is whole.

use serde_json::json;
use volume::{ContentState, FilesystemState, HeaderCopy, Verified, verify};

use super::{Answer, opening, unopened};
use crate::{cli::VerifyArgs, failure::Failure, report::Reporter};

pub(super) fn run(args: &VerifyArgs, reporter: &mut dyn Reporter) -> Result<Answer, Failure> {
    let opened = opening::open(&args.file, &args.open, reporter)?;
    let found = {
        let progress = reporter.progress("reading");
        verify(&opened.volume, &*progress).map_err(|e| unopened(&args.file, e))?
    };
    // A passphrase authenticates no header, which its own note says: that alone is no damage.
    let by_passphrase = args.open.passphrase_file.is_some() || args.open.unauthenticated;
    let faults = faults(&found, by_passphrase);
    let content = match found.content {
        ContentState::Authentic => "authentic: every byte is the one that was written",
        ContentState::Changed => "changed since it was written",
        ContentState::Unknown => {
            "has no MAC: changed sectors are noticed in the file system's metadata alone"
        }
    };
    let filesystem = match &found.filesystem {
        FilesystemState::Whole(survey) => format!(
            "ext4, whole: {} files, {} folders, {} others, {} bytes",
            survey.files, survey.folders, survey.others, survey.bytes
        ),
        FilesystemState::Other => "not ext4, not looked into".to_owned(),
        FilesystemState::Broken(why) => why.to_string(),
    };
    let mut text = format!(
        "{}: {}\n  headers     {}\n  keyslot     {}{}\n  content     {content}\n  filesystem  {filesystem}\n  read        {} bytes\n",
        args.file.display(),
        if faults.is_empty() { "whole" } else { "BROKEN" },
        found.headers,
        found.keyslot,
        if found.header_authenticated {
            ", authenticates the header"
        } else {
            ", authenticates nothing"
        },
        found.bytes,
    );
    for fault in &faults {
        text.push_str(&format!("  fault       {fault}\n"));
    }
    let json = json!({
        "whole": faults.is_empty(),
        "faults": faults,
        "headers": found.headers.to_string(),
        "keyslot": found.keyslot.get(),
        "header-authenticated": found.header_authenticated,
        "content": match found.content {
            ContentState::Authentic => "authentic",
            ContentState::Changed => "changed",
            ContentState::Unknown => "unknown",
        },
        "filesystem": filesystem,
        "bytes": found.bytes,
    });
    reporter.data(&text, &json)?;
    Ok(if faults.is_empty() {
        Answer::Done
    } else {
        Answer::Broken
    })
}

/// Everything that is wrong.
fn faults(found: &Verified, unauthenticated_is_fine: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if found.headers != HeaderCopy::Both {
        faults.push(format!("{}; `cryptsetup repair` mends it", found.headers));
    }
    if !found.header_authenticated && !unauthenticated_is_fine {
        faults.push("the header has no MAC of the secret that opened it".to_owned());
    }
    if found.content == ContentState::Changed {
        faults.push("the content is not the one that was written".to_owned());
    }
    if let FilesystemState::Broken(why) = &found.filesystem {
        faults.push(why.to_string());
    }
    faults
}
