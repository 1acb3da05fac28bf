//! SHA-256 on the server, by what it has for it.

use std::collections::HashMap;

use bytes::Bytes;
use ops_remote::ssh::client::Client;
use ops_ui::Result;
use tokio::sync::OnceCell;

use super::pool::SftpSession;
use crate::hashes::{Digest, parse_hash};

/// What hashes, and all of it prints the hash first. Without a name it hashes its standard input.
const TOOLS: [(&str, &str); 3] = [
    ("sha256sum", "sha256sum"),
    ("shasum", "shasum -a 256"),
    ("openssl", "openssl dgst -sha256 -r"),
];
/// Output of one command that is read, in bytes.
const OUTPUT_BYTES: usize = 8 << 20;

/// Hashes on one server. Commands are started over SSH; paths are given to xargs on standard input,
/// so that none is ever in a command line.
pub(super) struct Hasher {
    /// Words in front of commands.
    prefix: String,
    tool: OnceCell<Option<&'static str>>,
}

impl Hasher {
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            tool: OnceCell::new(),
        }
    }

    /// What the server hashes with; `None`: nothing, or it starts no commands. Asked once.
    ///
    /// # Errors
    /// The connection is lost.
    async fn tool(&self, session: &SftpSession) -> Result<Option<&'static str>> {
        let tool = self.tool.get_or_try_init(|| async {
            let line = format!(
                "{}sh -c 'command -v xargs >/dev/null || exit 1; for t in sha256sum shasum openssl; do command -v $t >/dev/null && echo $t && exit 0; done; exit 1'",
                self.prefix
            );
            let printed = match run(&session.client, &line, Bytes::new()).await {
                Ok(printed) => printed,
                // Some servers have no second channel to give.
                Err(_) if session.is_alive().await => None,
                Err(error) => return Err(error),
            };
            let said = printed.unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let last = said.lines().last().unwrap_or_default().trim();
            let known = TOOLS.iter().find(|(name, _)| *name == last);
            Ok(known.map(|(_, tool)| *tool))
        });
        tool.await.copied()
    }

    /// Hashes of whole files; one that is not there could not be read. `None`: the server does not
    /// hash.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn files(
        &self,
        session: &SftpSession,
        paths: &[&[u8]],
    ) -> Result<Option<HashMap<Vec<u8>, Digest>>> {
        let Some(tool) = self.tool(session).await? else {
            return Ok(None);
        };
        // Programs write names with line ends and backslashes in ways of their own.
        let (odd, plain): (Vec<&[u8]>, Vec<&[u8]>) = paths
            .iter()
            .copied()
            .partition(|path| path.iter().any(|byte| b"\n\r\\".contains(byte)));
        let mut digests = HashMap::with_capacity(paths.len());
        if !plain.is_empty() {
            let line = format!("{}xargs -0 {tool}", self.prefix);
            let Some(printed) = run(&session.client, &line, joined(&plain)).await? else {
                return Ok(None);
            };
            for line in printed.split(|&byte| byte == b'\n') {
                // Hash, a space, a space or a star, the name.
                let Some((digest, name)) = line.split_at_checked(64).and_then(|(hash, rest)| {
                    let digest = parse_hash(std::str::from_utf8(hash).ok()?)?;
                    Some((digest, rest.get(2..)?))
                }) else {
                    continue;
                };
                digests.insert(name.to_vec(), digest);
            }
        }
        if !odd.is_empty() {
            let line = format!("{}xargs -0 -n1 sh -c '{tool} <\"$0\" || echo'", self.prefix);
            let Some(printed) = run(&session.client, &line, joined(&odd)).await? else {
                return Ok(None);
            };
            for (path, line) in odd.iter().zip(printed.split(|&byte| byte == b'\n')) {
                if let Some(digest) = digest_of(line) {
                    digests.insert(path.to_vec(), digest);
                }
            }
        }
        Ok(Some(digests))
    }

    /// The hash of the first `len` bytes of a file. `None`: the server does not tell.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn beginning(
        &self,
        session: &SftpSession,
        path: &[u8],
        len: u64,
    ) -> Result<Option<Digest>> {
        let Some(tool) = self.tool(session).await? else {
            return Ok(None);
        };
        let line = format!(
            "{}xargs -0 sh -c 'head -c \"$0\" <\"$1\" | {tool}' {len}",
            self.prefix
        );
        let printed = run(&session.client, &line, joined(&[path])).await?;
        Ok(printed.and_then(|printed| digest_of(&printed)))
    }
}

fn digest_of(line: &[u8]) -> Option<Digest> {
    parse_hash(std::str::from_utf8(line.get(..64)?).ok()?)
}

fn joined(paths: &[&[u8]]) -> Bytes {
    let mut bytes = paths.join(&0);
    bytes.push(0);
    bytes.into()
}

/// Runs a command line with `input`; gives its output. `None`: the server starts none.
///
/// # Errors
/// The connection is lost.
async fn run(client: &Client, line: &str, input: Bytes) -> Result<Option<Vec<u8>>> {
    let Some(mut program) = client.command(line.as_bytes()).await? else {
        return Ok(None);
    };
    if !input.is_empty() {
        program.input.send(input).await;
    }
    program.input.end().await;
    let mut printed = Vec::new();
    while let Some(piece) = program.output.next().await {
        if printed.len() + piece.len() > OUTPUT_BYTES {
            return Ok(Some(printed));
        }
        printed.extend_from_slice(&piece);
    }
    if program.output.status().is_none() {
        return Err(client.lost(&"a command was cut off"));
    }
    Ok(Some(printed))
}
