//! A stream: what comes from standard input or from another server, in order, over one session.

use std::sync::Arc;

use futures_util::{TryStreamExt as _, future, stream};
use ops_core::{Error, Result};

use super::{
    super::{DEPTH, Sftp, pool::Session, wire::Attributes},
    block,
    place::{Meta, Place, make, no_room},
};
use crate::{
    reading::StreamReading,
    transport::{Digest, Job},
};

/// Blocks of a stream that are under way.
const STREAM_DEPTH: usize = DEPTH;

pub(super) async fn streamed(
    sftp: &Sftp,
    session: &Session,
    reading: StreamReading,
    place: &Place,
    meta: &Meta,
    job: &Job,
) -> Result<Digest> {
    // A part of an earlier stream is no beginning of this one.
    place.written.spoil();
    let handle = make(sftp, session, place, meta, job).await?;
    let empty = Attributes {
        size: Some(0),
        ..Attributes::default()
    };
    let cut = session.channel.set_handle(&handle, &empty).await;
    let handle_ref = &handle;
    // Locked by one alone at a time: it is read in order.
    let reading = Arc::new(tokio::sync::Mutex::new(reading));
    let sending = async {
        cut.map_err(|failure| sftp.failed(session, "write", &place.destination, &failure))?;
        let block = block(session);
        let begin = (Arc::clone(&reading), 0_u64);
        let pieces = stream::try_unfold(begin, move |(reading, at)| async move {
            let bytes = reading.lock().await.next(block).await?;
            let next = at + bytes.len() as u64;
            Ok::<_, Error>((!bytes.is_empty()).then_some(((at, bytes), (reading, next))))
        });
        pieces
            .map_ok(|(at, bytes)| async move {
                let _room = session.room(bytes.len()).await;
                match session.channel.write(handle_ref, at, &bytes).await {
                    Ok(()) => Ok(()),
                    Err(failure) => Err(no_room(sftp, session, place, at, &failure).await),
                }
            })
            .try_buffer_unordered(STREAM_DEPTH)
            .try_for_each(|()| future::ready(Ok(())))
            .await
    };
    let result = sending.await;
    let closed = session.channel.close(&handle).await;
    result?;
    match closed {
        Ok(()) => Ok(reading.lock().await.digest()),
        Err(failure) => Err(no_room(sftp, session, place, 0, &failure).await),
    }
}
