//! The lanes of a large file over SFTP, both ways: each session makes the next request for content
//! whenever one has been answered.

use std::ops::Range;

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use ops_ui::Result;

use super::{DEPTH, SftpTransport, lasting::Open};
use crate::lanes::Remaining;

/// Has `carry` called for each of `lanes` sessions, as long as anything is `remaining`.
///
/// # Errors
/// The first failure of a lane: what it had under way is missing, so the others stop too.
pub(super) async fn run_lanes<F>(
    sftp: &SftpTransport,
    lanes: usize,
    remaining: &Remaining,
    carry: impl Fn(usize) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let carry = &carry;
    let lanes = (0..lanes).map(|index| async move {
        if index > 0
            && let Err(error) = sftp.pool.session(index).await
        {
            // The others do its share.
            let label = sftp.pool.label();
            let output = sftp.server.cx.output();
            output.detail(format!("{label}: no session more: {error}"));
            return Ok(());
        }
        // They may have done all of it while this session was made.
        if remaining.is_empty() {
            return Ok(());
        }
        carry(index).await
    });
    future::try_join_all(lanes).await.map(drop)
}

/// Carries requests of up to `len` bytes over one session, [`DEPTH`] of them under way, until
/// nothing is `remaining`.
///
/// # Errors
/// A request failed, or the session is lost over and over.
pub(super) async fn carry_requests<F>(
    open: &Open<'_>,
    len: usize,
    remaining: &Remaining,
    request: impl Fn(Range<u64>) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let request = &request;
    // Taken one by one as there is room, so that a slow session takes fewer.
    stream::iter(std::iter::from_fn(|| remaining.take(len as u64)))
        .map(|range| async move {
            let _room = open.session().await?.room(len).await;
            request(range).await
        })
        .buffer_unordered(DEPTH)
        .try_for_each(|()| future::ready(Ok(())))
        .await
}
