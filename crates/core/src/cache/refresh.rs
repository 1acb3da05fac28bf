//! Getting a fleet anew, in this process.

use std::{
    fs::File,
    io,
    time::{Duration, SystemTime},
};

use ops_ui::{Error, ErrorKind, Result, paths::replace_private};

use super::{
    FRESH, FleetFile, KEPT, STALE,
    file::{self, Head},
    key, now_ms,
    view::View,
};
use crate::{BoxFuture, aws::options::AwsOptions, context::Context, inventory::Query};

/// How much longer than the list STS may take to tell the account.
const ACCOUNT_PATIENCE: Duration = Duration::from_millis(250);
/// A refresh that takes longer than this is given up.
const LIMIT: Duration = Duration::from_secs(120);

/// What a refresh has found.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// How many instances.
    pub count: usize,
    /// The account; empty if STS did not tell.
    pub account: String,
    /// The regions that were asked.
    pub regions: Vec<String>,
    /// What the list lacks.
    pub notes: Vec<String>,
}

/// Lists the fleet of this invocation and keeps it, unless another process has done so while
/// this one waited for its turn; `None` then.
///
/// # Errors
/// Those of listing; no place to keep it.
pub fn refresh<'a>(cx: &'a Context, always: bool) -> BoxFuture<'a, Result<Option<Refreshed>>> {
    Box::pin(refresh_unboxed(cx, always))
}

async fn refresh_unboxed(cx: &Context, always: bool) -> Result<Option<Refreshed>> {
    let fleet = FleetFile::of(cx.invocation(), cx.settings()?);
    const PURPOSE: &str = "the list of instances";
    let paths = cx.paths();
    paths.private_dir_for(PURPOSE, &fleet.folder)?;
    let lock =
        private_file(&fleet).map_err(|error| paths.cannot_keep(PURPOSE, &fleet.folder, &error))?;
    // A task that blocks, so that a signal still ends the command.
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .map_err(|error| Error::unexpected("cannot wait for the cache").caused_by(error))??;
    if !always
        && View::of(&fleet, STALE)
            .and_then(|view| view.age())
            .is_some_and(|age| age <= FRESH)
    {
        return Ok(None);
    }
    let result = tokio::time::timeout(LIMIT, Box::pin(list_fleet(cx, &fleet)))
        .await
        .unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "the list of instances took longer than {} s",
                    LIMIT.as_secs()
                ),
            ))
        });
    match &result {
        Ok(_) => drop(std::fs::remove_file(fleet.failure())),
        Err(_) => drop(replace_private(&fleet.failure(), b"")),
    }
    sweep(&fleet);
    drop(lock);
    result.map(Some)
}

async fn list_fleet(cx: &Context, fleet: &FleetFile) -> Result<Refreshed> {
    let options = AwsOptions::of(cx.invocation(), cx.settings()?);
    let mut regions = key::regions(&options);
    if regions.is_empty() {
        regions.push(cx.region().await?);
    }
    let created_ms = now_ms();
    let query = Query::of_targets(cx.profile()?);
    let account = async {
        let account = cx.identity().await.map(|identity| identity.account.clone());
        account.unwrap_or_default()
    };
    let listed = async {
        let listing = cx.list(&query, &regions).await?;
        if listing.failures.is_empty() {
            Ok(listing)
        } else {
            // Half a fleet would hide the other half.
            Err(listing
                .into_failure()
                .unwrap_or_else(|| Error::unexpected("the instances could not be listed")))
        }
    };
    tokio::pin!(account, listed);
    let (mut listing, account) = tokio::select! {
        listing = &mut listed => {
            let account = tokio::time::timeout(ACCOUNT_PATIENCE, &mut account).await;
            (listing?, account.unwrap_or_default())
        }
        account = &mut account => (listed.await?, account),
    };
    let head = Head {
        key: fleet.key.clone(),
        account: account.clone(),
        profile: cx.settings()?.profile_label().to_owned(),
        regions: regions.clone(),
        created_ms,
        count: u32::try_from(listing.instances.len()).unwrap_or(u32::MAX),
    };
    let bytes = file::encode(&head, &mut listing.instances)
        .ok_or_else(|| Error::unexpected("the fleet is too large to be kept"))?;
    replace_private(&fleet.file(), &bytes)?;
    Ok(Refreshed {
        count: listing.instances.len(),
        account,
        regions: head.regions,
        notes: listing.notes,
    })
}

/// The file that is locked; it stays, empty.
fn private_file(fleet: &FleetFile) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(fleet.lock())
}

/// Deletes what nobody has used for long: of profiles that are no more, of sandboxes that have
/// ended.
fn sweep(fleet: &FleetFile) {
    let Ok(entries) = std::fs::read_dir(&fleet.folder) else {
        return;
    };
    for entry in entries.filter_map(std::result::Result::ok) {
        let age = entry
            .metadata()
            .and_then(|data| data.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        let own = entry.file_name().to_string_lossy().starts_with(&fleet.key);
        if !own && age.is_some_and(|age| age > KEPT) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
