//! What to do about a file that is there already.

use std::collections::HashMap;

use ops_core::Context;
use ops_ui::{Result, confirm::Preset, output::escape};

use crate::{
    hashes::Digest,
    item::ListRequest,
    options::{Options, Overwrite},
    place::join_paths,
    transport::Transport,
};

/// Places that one list asks for.
pub(crate) const PLACES_AT_ONCE: usize = 40;

/// A file as it matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    /// In bytes.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
}

/// The hashes of files on a server, by path.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn list_digests(
    transport: &dyn Transport,
    paths: &[Vec<u8>],
) -> Result<HashMap<Vec<u8>, Digest>> {
    let mut digests = HashMap::new();
    for places in paths.chunks(PLACES_AT_ONCE) {
        let ask = ListRequest {
            places: places.to_vec(),
            digests: true,
            ..ListRequest::default()
        };
        for found in transport.list(&ask).await?.found {
            if let Some(digest) = found.entry.sha256 {
                digests.insert(join_paths(&found.root, &found.below), digest);
            }
        }
    }
    Ok(digests)
}

/// Why the file at the destination stays, if it does; `same` finds out whether the contents are
/// equal and is asked only where it matters.
///
/// # Errors
/// The contents cannot be compared; the answer cannot be read.
pub(crate) async fn reason_to_stay(
    cx: &Context,
    options: &Options,
    shown: &str,
    new: Version,
    old: Version,
    same: impl FnOnce() -> Result<bool>,
) -> Result<Option<&'static str>> {
    if options.compares_content() && new.size == old.size && same()? {
        return Ok(Some("equal"));
    }
    match options.overwrite {
        Overwrite::Always => Ok(None),
        Overwrite::Never => Ok(Some("exists")),
        Overwrite::Newer => Ok((new.mtime <= old.mtime).then_some("not newer")),
        Overwrite::Ask if options.dry_run => Ok(None),
        Overwrite::Ask => {
            let _turn = options.report.wait_to_ask().await;
            let question = format!("Replace {}?", escape(shown));
            let answer = cx.output().confirm(question, Preset::No).await?;
            Ok((!answer.is_yes()).then_some("not confirmed"))
        }
    }
}
