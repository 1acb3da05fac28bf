//! What a server has, found out once for each.

use std::collections::BTreeSet;

use ops_remote::pipe::{Chunk, DownPipe, ScriptHost};
use ops_remote::script::compact;
use ops_ui::{Error, Result, hint};

use super::script;

/// The user's home and the tools that are there.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    /// Where relative paths begin.
    pub(super) home: Vec<u8>,
    /// What new files lose of their permissions.
    pub(super) umask: u32,
    /// Room where an agent keeps the output of sessions, in bytes; `None` where df does not tell.
    pub(super) free_bytes: Option<u64>,
    have: BTreeSet<String>,
}

/// How hashes of files are made there, best first: the name in the probe, the command, which prints
/// the hash first. `scripts/tools.sh` chooses by the same rule.
const HASHES: [(&str, &str); 3] = [
    ("sha256sum", "sha256sum"),
    ("shasum", "shasum -a 256"),
    ("openssl", "openssl dgst -sha256 -r"),
];

pub(super) const PROBE: &str = include_str!("scripts/probe.sh");
pub(super) const TOOLS: &str = include_str!("scripts/tools.sh");

/// The script that finds out what a server has; `tell_tools` then prints it.
pub(super) fn probing_script() -> String {
    format!("{}{}", compact(PROBE), compact(TOOLS))
}

/// What is told of tools may have so many bytes: a path, and names.
const TOLD_MAX_BYTES: usize = 64 << 10;

/// Reads what `tell_tools` of [`probing_script`] prints, from a stream on which something else
/// follows.
#[derive(Default)]
pub(super) struct ToolsReader {
    told: Vec<u8>,
}

impl ToolsReader {
    /// Takes the next bytes. Once all is there: the tools, and the bytes that follow.
    ///
    /// # Errors
    /// They are not of that form.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Option<(Tools, Vec<u8>)>, ()> {
        self.told.extend_from_slice(bytes);
        let mut ends = self.told.iter().enumerate().filter(|&(_, &byte)| byte == 0);
        let Some((end, _)) = ends.nth(Tools::TEXTS - 1) else {
            return if self.told.len() > TOLD_MAX_BYTES {
                Err(())
            } else {
                Ok(None)
            };
        };
        let rest = self.told.split_off(end + 1);
        Tools::parse_told(&self.told)
            .map(|tools| Some((tools, rest)))
            .ok_or(())
    }
}

impl Tools {
    /// The texts that `tell_tools` prints.
    const TEXTS: usize = 4;

    /// Asks the server.
    ///
    /// # Errors
    /// No command can be run there as this user.
    pub(super) async fn probe_server(host: &ScriptHost) -> Result<Self> {
        let mut down = DownPipe::start(host, &format!("{}tell_tools\n", probing_script()))
            .await?
            .strict();
        let mut reader = ToolsReader::default();
        while let Some(chunk) = down.next().await? {
            let Chunk::Bytes(bytes) = chunk else { continue };
            match reader.feed(&bytes) {
                Ok(None) => {}
                Ok(Some((tools, _))) => return Ok(tools),
                Err(()) => break,
            }
        }
        Err(down.explained(did_not_say(host.instance.label())))
    }

    /// What `tell_tools` has printed; `None` if it is not of that form.
    pub(super) fn parse_told(told: &[u8]) -> Option<Self> {
        let mut parts = told.split(|&b| b == 0);
        let home = parts.next().filter(|home| home.starts_with(b"/"))?;
        let umask = std::str::from_utf8(parts.next()?).ok()?;
        let have = std::str::from_utf8(parts.next()?).ok()?;
        let free_kib = std::str::from_utf8(parts.next()?).ok()?;
        // They go back into scripts.
        let is_harmless =
            |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let have = have.split_ascii_whitespace().filter(is_harmless);
        Some(Self {
            home: home.to_vec(),
            umask: u32::from_str_radix(umask.trim(), 8).ok()? & 0o777,
            free_bytes: free_kib
                .parse()
                .ok()
                .map(|kib: u64| kib.saturating_mul(1024)),
            have: have.map(str::to_owned).collect(),
        })
    }

    /// The beginning of a script for a server that was asked already: what [`probing_script`] sets
    /// and defines there.
    pub(super) fn prelude_script(&self) -> String {
        let have: Vec<&str> = self.have.iter().map(String::as_str).collect();
        format!(
            "tools=\"{}\"\n{}{}",
            have.join(" "),
            script::assign_variable("home", &self.home),
            compact(TOOLS)
        )
    }

    /// Whether it has a tool, by its name in the probe.
    pub(super) fn has(&self, tool: &str) -> bool {
        self.have.contains(tool)
    }

    /// The command that prints the SHA-256 of its input or of files first in a line; `None` where
    /// there is none.
    pub(super) fn hash_command(&self) -> Option<&'static str> {
        HASHES
            .iter()
            .find(|(name, _)| self.has(name))
            .map(|&(_, command)| command)
    }

    /// The best program to compress and decompress with.
    pub(super) fn best_codec(&self) -> Option<&'static str> {
        ["zstd", "gzip"].into_iter().find(|codec| self.has(codec))
    }

    /// The command that compresses a stream fast, and with a window that costs the reader little
    /// memory where that can be had.
    pub(super) fn compress_command(&self) -> Option<String> {
        let codec = self.best_codec()?;
        let window = if codec == "zstd" && self.has("window") {
            " --zstd=wlog=17"
        } else {
            ""
        };
        Some(format!("{codec} -1 -c{window}"))
    }

    /// What it lacks, for a note; with what comes of it.
    pub(super) fn notes_on_missing(&self) -> Vec<&'static str> {
        let mut notes = Vec::new();
        if self.hash_command().is_none() {
            notes.push("no sha256sum, shasum or openssl: files are compared by size alone");
        }
        if !self.has("tar") {
            notes.push("no tar: many small files take longer");
        }
        if self.best_codec().is_none() {
            notes.push("no zstd or gzip: nothing is compressed");
        }
        notes
    }
}

/// Without slashes at the end.
pub(super) fn trim_slashes(mut path: Vec<u8>) -> Vec<u8> {
    while path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
    path
}

/// The error of a server that was asked which tools it has, and told something else or nothing.
pub(super) fn did_not_say(label: &str) -> Error {
    Error::target(format!("`{label}` did not say which tools it has"))
        .caused_by("its session was lost, or its shell says something of its own first")
        .hint(hint!("see which of both: ops doctor {}", label))
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
        Tools::parse_told(format!("/home/me\x000022\0{have}\x00123\0").as_bytes()).unwrap()
    }

    #[test]
    fn what_is_missing_is_done_without() {
        let all = tools("tar gzip zstd sha256sum shasum");
        assert_eq!(
            (all.hash_command(), all.best_codec()),
            (Some("sha256sum"), Some("zstd"))
        );
        assert_eq!((all.umask, all.notes_on_missing().len()), (0o022, 0));
        let few = tools("gzip openssl");
        assert_eq!(few.hash_command(), Some("openssl dgst -sha256 -r"));
        assert_eq!(few.best_codec(), Some("gzip"));
        assert_eq!(tools("").notes_on_missing().len(), 3);
        assert!(Tools::parse_told(b"nonsense").is_none());
    }

    #[test]
    fn what_is_told_is_read_however_it_is_cut_and_what_follows_is_left() {
        let told = b"/home/me\x000022\0tar gzip `id`\x00123\0A0\0/tmp\0";
        for cut in 1..told.len() {
            let mut reader = ToolsReader::default();
            let mut rest = Vec::new();
            let mut tools = None;
            for piece in told.chunks(cut) {
                if tools.is_some() {
                    rest.extend_from_slice(piece);
                } else if let Some((read, more)) = reader.feed(piece).unwrap() {
                    tools = Some(read);
                    rest.extend(more);
                }
            }
            let tools = tools.unwrap();
            assert_eq!(rest, b"A0\0/tmp\0");
            assert_eq!(tools.free_bytes, Some(123 << 10));
            // What is no name of the probe goes into no script.
            assert!(tools.prelude_script().starts_with("tools=\"gzip tar\"\n"));
        }
        assert!(
            ToolsReader::default()
                .feed(&[b'x'; TOLD_MAX_BYTES + 1])
                .is_err()
        );
    }
}
