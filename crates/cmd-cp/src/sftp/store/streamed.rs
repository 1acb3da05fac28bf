//! A stream: what comes from standard input or from another server, in order, over one session.

use std::sync::Arc;

use futures_util::{TryStreamExt as _, future, stream};
use ops_ui::{Error, Result};

use super::{
    super::{DEPTH, SftpTransport},
    destination::{Destination, LocalMetadata, SentFile, make, no_room},
    request_bytes,
};
use crate::{reading::StreamReading, transport::Job};

/// Blocks of a stream that are under way.
const STREAM_DEPTH: usize = DEPTH;

/// Sends what comes; gives its hash and its length in bytes.
///
/// # Errors
/// It cannot be written; its source failed.
pub(super) async fn streamed(
    sftp: &SftpTransport,
    reading: StreamReading,
    place: &mut Destination,
    meta: &LocalMetadata,
    job: &Job,
) -> Result<SentFile> {
    let open = make(sftp, 0, place, meta, job).await?;
    let place = &*place;
    // A part of an earlier stream is no beginning of this one.
    place.written.spoil();
    // Locked by one alone at a time: it is read in order.
    let reading = Arc::new(tokio::sync::Mutex::new(reading));
    let open_ref = &open;
    let sending = async {
        open_ref.empty().await?;
        let len = request_bytes(&*open_ref.session().await?);
        let begin = (Arc::clone(&reading), 0_u64);
        let pieces = stream::try_unfold(begin, move |(reading, at)| async move {
            let bytes = reading.lock().await.next(len).await?;
            let next = at + bytes.len() as u64;
            Ok::<_, Error>((!bytes.is_empty()).then_some(((at, bytes), (reading, next))))
        });
        pieces
            .map_ok(|(at, bytes)| async move {
                let _room = open_ref.session().await?.room(bytes.len()).await;
                match open_ref.write(at, &bytes).await? {
                    Ok(()) => Ok(at + bytes.len() as u64),
                    Err(failure) => Err(no_room(sftp, 0, place, at, &failure).await),
                }
            })
            .try_buffer_unordered(STREAM_DEPTH)
            .try_fold(0, |most, end| future::ready(Ok(most.max(end))))
            .await
    };
    let result = sending.await;
    let closed = open.close().await;
    let size = result?;
    match closed {
        Ok(()) => Ok(SentFile {
            digest: reading.lock().await.digest(),
            size,
        }),
        Err(failure) => Err(no_room(sftp, 0, place, 0, &failure).await),
    }
}
