//! What completion offers: ids of open sessions.

use ops_core::{Context, cache::FolderFile, calls::session_list::SessionQuery};

use crate::record::Names;

/// Lists the open sessions of this invocation and keeps them for completion. Why they could not be
/// listed shows with the next command.
pub async fn keep_open_sessions(cx: &Context) {
    let Ok(settings) = cx.settings() else {
        return;
    };
    let file = FolderFile::of_sessions(cx.invocation(), settings);
    let entries = session_entries(cx).await;
    let _ = file.keep(entries.as_deref());
}

async fn session_entries(cx: &Context) -> Option<Vec<u8>> {
    let regions = cx.regions().await.ok()?;
    let listing = cx.list_sessions(&SessionQuery::default(), &regions).await;
    let sessions = listing.ok()?.sessions;
    let names = Names::of(cx, &sessions).await;
    let mut entries = Vec::new();
    for session in &sessions {
        let (owner, server) = (session.owner_name(), names.label(&session.target));
        entries.extend(format!("{}\t{owner} on {server}\0", session.id).into_bytes());
    }
    Some(entries)
}
