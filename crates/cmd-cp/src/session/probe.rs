//! What a server has, found out once for each.

use std::collections::BTreeSet;

use ops_remote::pipe::{Chunk, Down, Far};
use ops_ui::{Error, Result};

/// The user's home and the tools that are there.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    /// Where relative paths begin.
    pub(super) home: Vec<u8>,
    /// What new files lose of their permissions.
    pub(super) umask: u32,
    have: BTreeSet<String>,
}

/// How hashes of files are made there, best first: the name in the probe, the command, which prints
/// the hash first. Of much that is read from standard input OpenSSL makes them faster, of many
/// small files the one that starts faster.
const HASHES: [(&str, &str); 3] = [
    ("sha256sum", "sha256sum"),
    ("shasum", "shasum -a 256"),
    ("openssl", "openssl dgst -sha256 -r"),
];

pub(super) const SCRIPT: &str = include_str!("scripts/probe.sh");

impl Tools {
    /// Asks the server.
    ///
    /// # Errors
    /// No command can be run there as this user.
    pub(super) async fn probe(far: &Far) -> Result<Self> {
        let mut down = Down::start(far, &super::script::compact(SCRIPT))
            .await?
            .strict();
        let mut told = Vec::new();
        while let Some(chunk) = down.next().await? {
            if let Chunk::Bytes(bytes) = chunk {
                told.extend_from_slice(&bytes);
            }
            if told.len() > 64 << 10 {
                break;
            }
        }
        Self::read(&told).ok_or_else(|| {
            let label = far.instance.label();
            down.failed(format!("`{label}` did not say what it has"))
        })
    }

    /// What [`SCRIPT`] has printed; `None` if it is not of that form.
    pub(super) fn read(told: &[u8]) -> Option<Self> {
        let mut parts = told.split(|&b| b == 0);
        let home = parts.next().filter(|home| home.starts_with(b"/"))?;
        let umask = std::str::from_utf8(parts.next()?).ok()?;
        let have = std::str::from_utf8(parts.next()?).ok()?;
        Some(Self {
            home: home.to_vec(),
            umask: u32::from_str_radix(umask.trim(), 8).ok()? & 0o777,
            have: have.split_ascii_whitespace().map(str::to_owned).collect(),
        })
    }

    /// Whether it has a tool, by its name in the probe.
    pub(super) fn has(&self, tool: &str) -> bool {
        self.have.contains(tool)
    }

    /// The command that prints the SHA-256 of its input or of files first in a line; `None` where
    /// there is none.
    pub(super) fn hash(&self) -> Option<&'static str> {
        HASHES
            .iter()
            .find(|(name, _)| self.has(name))
            .map(|&(_, command)| command)
    }

    /// The shell function `hash_input`: the SHA-256 of its input in hexadecimal digits, or `-`.
    pub(super) fn hash_function(&self) -> String {
        let last = HASHES.last().filter(|(name, _)| self.has(name));
        match last.map(|&(_, command)| command).or(self.hash()) {
            Some(command) => format!("hash_input() {{ {command} | cut -c1-64; }}\n"),
            None => "hash_input() { echo -; }\n".to_owned(),
        }
    }

    /// The best program to compress and decompress with.
    pub(super) fn codec(&self) -> Option<&'static str> {
        ["zstd", "gzip"].into_iter().find(|codec| self.has(codec))
    }

    /// The command that compresses a stream fast, and with a window that costs the reader little
    /// memory where that can be had.
    pub(super) fn compressor(&self) -> Option<String> {
        let codec = self.codec()?;
        let window = if codec == "zstd" && self.has("window") {
            " --zstd=wlog=17"
        } else {
            ""
        };
        Some(format!("{codec} -1 -c{window}"))
    }

    /// What it lacks, for a note; with what comes of it.
    pub(super) fn lacks(&self) -> Vec<&'static str> {
        let mut notes = Vec::new();
        if self.hash().is_none() {
            notes.push("no sha256sum, shasum or openssl: files are compared by size alone");
        }
        if !self.has("tar") {
            notes.push("no tar: many small files take longer");
        }
        if self.codec().is_none() {
            notes.push("no zstd or gzip: nothing is compressed");
        }
        notes
    }

    /// `~` and relative paths made absolute, without a slash at the end. `None` for `~user`, which
    /// only the server can expand.
    pub(super) fn absolute(&self, place: &[u8]) -> Option<Vec<u8>> {
        let path = match place {
            b"" | b"~" => self.home.clone(),
            [b'~', b'/', rest @ ..] => crate::place::join(&self.home, rest),
            [b'~', ..] => return None,
            [b'/', ..] => place.to_vec(),
            relative => crate::place::join(&self.home, relative),
        };
        Some(trimmed(path))
    }
}

/// Without slashes at the end.
pub(super) fn trimmed(mut path: Vec<u8>) -> Vec<u8> {
    while path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
    path
}

/// What cannot be done over this transport at all.
///
/// # Errors
/// A tool without which nothing can be sent is missing.
pub(super) fn needed_to_send(tools: &Tools, label: &str) -> Result<()> {
    for tool in ["head", "mktemp", "mkfifo"] {
        if !tools.has(tool) {
            return Err(Error::target(format!(
                "`{label}` has no {tool}, without which nothing can be sent to it"
            ))
            .hint("try another way: --via sftp"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(have: &str) -> Tools {
        Tools::read(format!("/home/me\x000022\0{have}\0").as_bytes()).unwrap()
    }

    #[test]
    fn what_is_missing_is_done_without() {
        let all = tools("tar gzip zstd sha256sum shasum");
        assert_eq!((all.hash(), all.codec()), (Some("sha256sum"), Some("zstd")));
        assert!(all.hash_function().contains("{ sha256sum |"));
        let both = tools("sha256sum openssl");
        assert_eq!(both.hash(), Some("sha256sum"));
        assert!(both.hash_function().contains("{ openssl dgst -sha256 -r |"));
        assert_eq!((all.umask, all.lacks().len()), (0o022, 0));
        let few = tools("gzip openssl");
        assert_eq!(few.hash(), Some("openssl dgst -sha256 -r"));
        assert_eq!(few.codec(), Some("gzip"));
        assert_eq!(tools("").lacks().len(), 3);
        assert!(Tools::read(b"nonsense").is_none());
    }

    #[test]
    fn relative_places_begin_at_home() {
        let tools = tools("");
        let absolute = |text: &str| {
            tools
                .absolute(text.as_bytes())
                .map(|path| String::from_utf8(path).unwrap())
        };
        assert_eq!(absolute("").as_deref(), Some("/home/me"));
        assert_eq!(absolute("~/x/").as_deref(), Some("/home/me/x"));
        assert_eq!(absolute("x").as_deref(), Some("/home/me/x"));
        assert_eq!(absolute("/").as_deref(), Some("/"));
        assert_eq!(absolute("~bob/x"), None);
    }
}
