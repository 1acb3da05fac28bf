//! The servers that were used last: first in the picker, listed by `ops recent`, and the last of
//! them is what the target `-` means.
//!
//! One file, `$XDG_STATE_HOME/ops/recent.jsonl`, for this user alone (0600), a line for each use. A
//! use is appended in one write, so that commands at the same time do not lose each other's; a file
//! that has grown is written anew without what nobody asks for any more. It never leaves this
//! machine. What is damaged in it is as good as not there.

use std::{
    borrow::Cow,
    collections::HashSet,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use ops_profile::{Instance, Selector, Target};
use ops_ui::{
    Error, ErrorKind, Result, hint,
    paths::{private_dir, write_private},
};
use serde::{Deserialize, Serialize};

use crate::{cache, context::Context};

/// Servers that are kept, each once with each profile.
const KEPT: usize = 100;
/// Size from which on the file is written anew, in bytes. A line takes some 200.
const GROWN: u64 = 64 << 10;
/// What is read of a file at most, in bytes: nothing of ours is longer.
const READ: u64 = 4 * GROWN;
/// Servers of one command that are remembered at most. More are a fleet, in which nobody looks for
/// the one that was used last.
const AT_ONCE: usize = 5;

/// A server, and when it was used last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// `i-…` or `mi-…`.
    pub id: String,
    /// Its name at that time.
    pub name: Option<String>,
    /// Its region.
    pub region: String,
    /// What messages call the profile with which it was used.
    pub profile: String,
    /// Whether it is one of the sandbox.
    pub sandbox: bool,
    /// The verb, such as `shell`.
    pub verb: String,
    /// When.
    pub used: Timestamp,
}

impl Context {
    /// The servers that were used last with the profile of this invocation, the last one first.
    ///
    /// # Errors
    /// Invalid settings.
    pub fn recents(&self) -> Result<Vec<Recent>> {
        let settings = self.settings()?;
        let (profile, sandbox) = (settings.profile_label(), settings.sandbox.value);
        let mut recents = self.recents_of_all_profiles();
        recents.retain(|recent| recent.profile == profile && recent.sandbox == sandbox);
        Ok(recents)
    }

    /// The servers that were used last with any profile, the last one first.
    pub fn recents_of_all_profiles(&self) -> Vec<Recent> {
        read(&file(self))
    }

    /// Forgets all of them.
    ///
    /// # Errors
    /// The file cannot be deleted.
    pub fn forget_recents(&self) -> Result<()> {
        match std::fs::remove_file(file(self)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Remembers that `verb` was used on `instances`: by a person, who sits at a terminal. A job
    /// that runs beside him must not change what `-` means to him, and neither must completion.
    pub(crate) fn remember_use(&self, verb: &str, instances: &[Instance]) {
        let Ok(settings) = self.settings() else {
            return;
        };
        let is_for_another = verb == "ssh-proxy" || self.env().var(cache::VARIABLE).is_some();
        if !settings.recent.value
            || is_for_another
            || !self.output().is_on_terminal()
            || instances.len() > AT_ONCE
        {
            return;
        }
        let used = Timestamp::now();
        let uses = instances.iter().map(|instance| Recent {
            id: instance.id.clone(),
            name: instance.name.clone(),
            region: instance.region.clone(),
            profile: settings.profile_label().to_owned(),
            sandbox: settings.sandbox.value,
            verb: verb.to_owned(),
            used,
        });
        let path = file(self);
        // Nobody's command fails for want of a memory.
        if let Err(error) = append(&path, uses).and_then(|()| shorten(&path)) {
            self.output()
                .detail(format!("this use is not remembered: {error}"));
        }
    }

    /// `target` with `-` replaced by the server that was used last with this profile; any other
    /// target as it is.
    ///
    /// # Errors
    /// No server was used yet; invalid settings.
    pub fn with_last<'a>(&self, target: &'a Target) -> Result<Cow<'a, Target>> {
        if target.selector != Selector::Last {
            return Ok(Cow::Borrowed(target));
        }
        let settings = self.settings()?;
        let regions = &self.globals().region;
        let last = self
            .recents()?
            .into_iter()
            .find(|recent| regions.is_empty() || regions.contains(&recent.region));
        let Some(last) = last else {
            return Err(none_used(settings));
        };
        self.output().detail(format!(
            "`-` is {} ({})",
            last.name.as_deref().unwrap_or(&last.id),
            last.id
        ));
        Ok(Cow::Owned(Target::of_id(
            target.user.clone(),
            last.id,
            last.region,
        )))
    }
}

fn none_used(settings: &ops_profile::Settings) -> Error {
    let label = settings.profile_label();
    let error = Error::new(
        ErrorKind::NotFound,
        "`-` is the server that was used last, and none was",
    );
    if settings.recent.value {
        error
            .caused_by(format!("no server was used with profile `{label}` so far"))
            .hint("see those of all profiles: ops recent --all")
            .hint("choose one: ops shell")
    } else {
        let origin = &settings.recent.origin;
        error
            .caused_by(format!("none is remembered: {origin} says so"))
            .hint(hint!("choose one: ops shell"))
    }
}

fn file(cx: &Context) -> PathBuf {
    cx.paths().state.join("recent.jsonl")
}

/// All that is in the file, each server once with each profile, the last use first.
fn read(path: &Path) -> Vec<Recent> {
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(READ).read_to_end(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let lines = text.split(|&byte| byte == b'\n');
    // A use that another version has written, or half of one, is left out.
    let mut uses: Vec<Recent> = lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    // Clocks are set back; what was written last was used last.
    uses.reverse();
    let mut known = HashSet::new();
    uses.retain(|one| {
        let server = (
            one.id.clone(),
            one.region.clone(),
            one.profile.clone(),
            one.sandbox,
        );
        known.insert(server)
    });
    uses.truncate(KEPT);
    uses
}

/// Adds `uses` to the end of the file.
fn append(path: &Path, uses: impl Iterator<Item = Recent>) -> io::Result<()> {
    let mut lines = Vec::new();
    for one in uses {
        serde_json::to_writer(&mut lines, &one)?;
        lines.push(b'\n');
    }
    private_dir(path.parent().unwrap_or(path).to_owned())?;
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(&lines)
}

/// Writes a file that has grown anew. What another command appends meanwhile may be lost, which is
/// one use of a hundred.
fn shorten(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.len() < GROWN {
        return Ok(());
    }
    let mut lines = Vec::new();
    for one in read(path).iter().rev() {
        serde_json::to_writer(&mut lines, one)?;
        lines.push(b'\n');
    }
    write_private(path, &lines)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn one(id: usize, profile: &str) -> Recent {
        Recent {
            id: format!("i-{id:08x}"),
            name: Some(format!("web-{id}")),
            region: "eu-west-1".to_owned(),
            profile: profile.to_owned(),
            sandbox: false,
            verb: "shell".to_owned(),
            used: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_server_is_there_once_with_each_profile_the_last_use_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ops/recent.jsonl");
        for (id, profile) in [(1, "a"), (2, "a"), (1, "b"), (1, "a")] {
            append(&path, std::iter::once(one(id, profile))).unwrap();
        }
        assert_eq!(read(&path), [one(1, "a"), one(1, "b"), one(2, "a")]);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recent.jsonl");
        for id in 0..2000 {
            append(&path, std::iter::once(one(id, "a"))).unwrap();
            shorten(&path).unwrap();
            assert!(std::fs::metadata(&path).unwrap().len() < GROWN + 400);
        }
        let kept = read(&path);
        assert_eq!(kept.len(), KEPT);
        assert_eq!((&kept[0], &kept[99]), (&one(1999, "a"), &one(1900, "a")));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_damaged_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recent.jsonl");
        append(&path, std::iter::once(one(1, "a"))).unwrap();
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap();
        file.write_all(b"{\"id\":\"i-1\n\xff\xfe\n{}\n").unwrap();
        append(&path, std::iter::once(one(2, "a"))).unwrap();
        assert_eq!(read(&path), [one(2, "a"), one(1, "a")]);
        assert_eq!(read(folder.path()), []);
    }
}
