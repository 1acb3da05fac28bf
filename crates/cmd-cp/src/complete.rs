//! Names in a folder of a server, for completion.

use ops_core::{Choice, Command as _, Context, cache::FolderFile, connect::Urgency};
use ops_profile::CopyVia;
use ops_remote::pipe::{Chunk, DocumentHabits, DownPipe, ScriptHost};
use ops_ui::{Error, ErrorKind, Result};

use crate::{cp::Cp, place::TypedPath, session::names_script};

/// Most that is read of a folder, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Lists the folder that `place` (`TARGET:FOLDER`) names and keeps its names in the cache. Nobody
/// is asked and nothing is said: what fails is not tried again for a moment.
pub async fn keep_folder(cx: &Context, place: &str) {
    let Ok(settings) = cx.settings() else { return };
    let file = FolderFile::of(cx.invocation(), settings, place);
    let names = Box::pin(list_folder(cx, place)).await.ok();
    // Without a place to keep them the next key asks again.
    let _ = file.keep(names.as_deref());
}

/// The names, each ended by a NUL, folders with a slash at their end.
async fn list_folder(cx: &Context, place: &str) -> Result<Vec<u8>> {
    let TypedPath::Remote { target, path } = TypedPath::parse(place.as_ref())? else {
        return Err(Error::usage("no folder of a server"));
    };
    let copy = &cx.profile()?.copy;
    if copy.deny_via.0.contains(&CopyVia::Session) {
        return Err(Error::new(ErrorKind::Refused, "no sessions for copies"));
    }
    let instance = cx.resolve(&target, Choice::Ask).await?;
    // What a copy would be asked about is not listed before.
    cx.guard(Cp::NAME, std::slice::from_ref(&instance), None)
        .await?;
    let host = ScriptHost {
        cx: cx.clone(),
        instance,
        user: target.user.clone(),
        document: copy.document.clone(),
        reason: None,
        urgency: Urgency::Interactive,
        known: DocumentHabits::default(),
    };
    let mut down = DownPipe::start(&host, &names_script(&path)?).await?;
    let mut names = Vec::new();
    while let Some(chunk) = down.next().await? {
        if let Chunk::Bytes(bytes) = chunk {
            names.extend_from_slice(&bytes);
        }
        if names.len() > MAX_BYTES {
            return Err(Error::unexpected("too many names"));
        }
    }
    match down.status() {
        Some(0) => Ok(names),
        _ => Err(down.failed("the folder cannot be listed")),
    }
}
