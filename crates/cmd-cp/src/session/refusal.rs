//! What the script on a server says of something that it could not do.

use std::fmt;

use ops_ui::{Error, hint};

use crate::{leave::shown_there, remote_path::RemotePath};

/// What a full file system or a quota is called. Source: `strerror` of ENOSPC and EDQUOT.
const FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// Marks an error that holds a server's words and nothing of ours.
#[derive(Debug)]
struct ServersWords;

impl fmt::Display for ServersWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server's words")
    }
}

impl std::error::Error for ServersWords {}

/// The server's words.
pub(super) fn refusal_error(label: &str, why: &str) -> Error {
    // A shell puts its own name and a line's number in front.
    let why = why.trim();
    let why = why.strip_prefix("sh: ").map_or(why, |rest| {
        rest.split_once(": ").map_or(rest, |(_, rest)| rest)
    });
    let error = Error::unexpected(format!("`{label}` says: {why}")).with_source(ServersWords);
    if FULL.iter().any(|words| why.contains(words)) {
        return error.hint(hint!(
            "make room there, or copy to another file system; which of them are full: ops exec {} -- df -h",
            label
        ));
    }
    error
}

/// `error` about what is stored at `path`. Where it is the server's words they come second: they
/// name a part of a pipeline (`head: error writing 'standard output'`) sooner than the file.
pub(super) fn store_error(error: Error, label: &str, path: &RemotePath) -> Error {
    if !error.came_from::<ServersWords>() {
        return error;
    }
    let place = shown_there(label, path.whole());
    Error::new(error.kind(), format!("cannot write `{place}`"))
        .caused_by(error.what())
        .caused_as(&error)
        .hinted_as(&error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_shell_lose_its_name() {
        let error = refusal_error("web-1", "sh: 12: cannot create /x: Permission denied ");
        assert_eq!(
            error.what(),
            "`web-1` says: cannot create /x: Permission denied"
        );
    }

    #[test]
    fn a_full_disk_is_told_with_the_file_the_server_and_what_to_do() {
        let said = "head: error writing 'standard output': No space left on device";
        let path = RemotePath::named(b"/srv/big".to_vec());
        let error = store_error(refusal_error("web-1", said), "web-1", &path);
        assert_eq!(error.what(), "cannot write `web-1:/srv/big`");
        assert_eq!(
            error.why().first().map(ToString::to_string),
            Some(format!("`web-1` says: {said}"))
        );
        assert!(
            error.hints()[0].ends_with("ops exec web-1 -- df -h"),
            "{:?}",
            error.hints()
        );
        // What failed here names its own file.
        let ours = store_error(Error::unexpected("cannot read `a`"), "web-1", &path);
        assert_eq!(ours.what(), "cannot read `a`");
    }
}
