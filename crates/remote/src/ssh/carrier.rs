//! A session's bytes as a stream, for an SSH client in this process.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use ops_session::driver::{self, Event};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use ops_core::{Connection, Context, connect::Ending, trouble::Trouble};
use ops_ui::Error;

/// Bytes that may wait in each direction between the session and the client.
const PIPE_BYTES: usize = 128 << 10;
/// Most that is handed to the session at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Keeps a session under a stream; dropped, the session is ended at the service.
pub(super) struct Carrier {
    why: Arc<Mutex<Option<Error>>>,
    _stop: DropGuard,
}

impl Carrier {
    /// Puts `connection` under a stream.
    pub(super) fn start(
        cx: &Context,
        connection: Connection,
        trouble: Trouble,
    ) -> (Self, DuplexStream) {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let why = Arc::new(Mutex::new(None));
        let stop = CancellationToken::new();
        let (session, ending) = connection.into_parts();
        // The process waits for it: it ends the session at the service.
        cx.interrupt().finish_later(pump(
            session,
            ending,
            far,
            stop.clone(),
            Arc::clone(&why),
            trouble,
        ));
        let carrier = Self {
            why,
            _stop: stop.drop_guard(),
        };
        (carrier, near)
    }

    /// Why the session ended, if it ended by itself and told.
    pub(super) fn why(&self) -> Option<Error> {
        self.why
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn pump(
    session: driver::Session,
    ending: Ending,
    stream: DuplexStream,
    stop: CancellationToken,
    why: Arc<Mutex<Option<Error>>>,
    mut trouble: Trouble,
) {
    let driver::Session { sender, mut events } = session;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let up = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE_BYTES);
            match reader.read_buf(&mut buffer).await {
                Ok(1..) if sender.send(buffer.split().freeze()).await.is_ok() => {}
                // The events say why nothing more can be sent; a client that has gone is not
                // missed.
                _ => return,
            }
        }
    };
    let down = async {
        loop {
            match events.next().await {
                Some(Event::Output(bytes)) => {
                    if writer.write_all(&bytes).await.is_err() {
                        return None;
                    }
                }
                Some(event @ (Event::Closed(_) | Event::Failed(_))) => return Some(event),
                Some(event) => trouble.hear(&event),
                None => return None,
            }
        }
    };
    let last = {
        let (up, down) = (std::pin::pin!(up), std::pin::pin!(down));
        tokio::select! {
            biased;
            last = down => last,
            () = stop.cancelled() => None,
            () = up => None,
        }
    };
    let told = match &last {
        Some(Event::Closed(closing)) => ending.closed(closing),
        Some(Event::Failed(error)) => Some(ending.failed(error)),
        _ => None,
    };
    *why.lock().unwrap_or_else(PoisonError::into_inner) = told;
    if matches!(last, Some(Event::Closed(_))) {
        ending.ended();
    } else {
        ending.terminate().await;
    }
}
