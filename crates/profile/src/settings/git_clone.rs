//! The clone of a git repository by which a team shares its folder of profiles.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use jiff::Timestamp;
use ops_ui::Env;
use serde::Serialize;

use crate::instance::age_words;

/// The clone that a folder belongs to, and the last commit that changed something in that folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GitClone {
    /// The address of its remote `origin`, without a user's name and password; `None` where it has
    /// no such remote.
    pub source: Option<String>,
    /// The commit, in full.
    pub commit: String,
    /// When that was committed.
    #[serde(serialize_with = "as_text")]
    pub committed: Timestamp,
}

impl GitClone {
    /// Asks git about `folder`. `None` where that lies in no clone or has no commit, where git is
    /// not installed, and where git does not trust the clone because it is somebody else's.
    pub fn of_folder(folder: &Path, env: &Env) -> Option<Self> {
        let folder = folder.canonicalize().ok()?;
        // Nothing is started for the usual folder, which is in no clone.
        if !folder.ancestors().any(|above| above.join(".git").exists()) {
            return None;
        }
        // A clone may well show signatures, for which git would start another program.
        let last = ["log", "-1", "--no-show-signature", "--format=%H %ct"];
        let last = ask_git(&folder, env, &[&last[..], &["--", "."]].concat())?;
        let (commit, seconds) = last.split_once(' ')?;
        let source = ask_git(&folder, env, &["config", "--get", "remote.origin.url"]);
        Some(Self {
            source: source.map(|address| without_login(&address)),
            commit: commit.to_owned(),
            committed: Timestamp::from_second(seconds.parse().ok()?).ok()?,
        })
    }

    /// How long ago that was committed, in the words of tables: `6d`.
    pub fn age(&self) -> String {
        age_words(Timestamp::now().as_second() - self.committed.as_second())
    }
}

fn as_text<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// One line that git answers; `None` where it fails, or has nothing to say.
fn ask_git(folder: &Path, env: &Env, words: &[&str]) -> Option<String> {
    // `GIT_DIR` and its like, as hooks of git set them, would have another repository answer.
    let vars = env
        .iter()
        .filter(|(name, _)| !name.as_encoded_bytes().starts_with(b"GIT_"));
    let output = Command::new("git")
        .env_clear()
        .envs(vars)
        // Nothing is fetched, asked, or written: a partial clone would go to the network.
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .args(["--no-pager", "-c", "core.fsmonitor=false", "-C"])
        .arg(folder)
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

/// `address` as it may be shown: tokens of deploy users stand in front of the host. The user of ssh
/// belongs to the address, and is no secret.
fn without_login(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let shown = match host.rsplit_once('@') {
        Some((login, host)) if scheme == "ssh" => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{user}@{host}")
        }
        Some((_, host)) => host.to_owned(),
        None => host.to_owned(),
    };
    format!("{scheme}://{shown}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_logs_in() {
        for (address, shown) in [
            ("git@example.com:web/p.git", "git@example.com:web/p.git"),
            ("https://t0ken@example.com/p", "https://example.com/p"),
            ("https://u:p@ss@example.com/p@1", "https://example.com/p@1"),
            (
                "ssh://git:pw@example.com:22/p",
                "ssh://git@example.com:22/p",
            ),
            ("https://example.com", "https://example.com"),
            ("/srv/git/p.git", "/srv/git/p.git"),
        ] {
            assert_eq!(without_login(address), shown);
        }
    }
}
