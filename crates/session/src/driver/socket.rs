//! One web socket with a data channel on it: batched writes, reads, pings.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink as _, SinkExt as _, Stream as _};
use http::HeaderMap;
use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::{self, Message};
use uuid::Uuid;

use super::coalesce::Pace;
use super::dial::{Dialer, Socket};
use super::error::OpenError;
use super::{Gateway, Token};
use crate::data_channel::DataChannel;
use crate::wire::OpenDataChannel;

/// Frames read or written in one turn, so that neither side waits long for the other.
const TURN_FRAMES: usize = 128;
/// Bytes read in one turn; what comes above the receive bound is at most this and one frame.
const TURN_BYTES: usize = 256 << 10;

/// How long a connection on which nothing can be written may take to give what has arrived.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// Dials with headers of `gateway` and writes the opening frame; once more where the gateway says
/// so after a refusal.
pub(super) async fn open_for(
    gateway: &dyn Gateway,
    dialer: &Dialer,
    stream_url: &str,
    token: &Token,
    client_id: &str,
    client_version: &str,
) -> Result<Connection, OpenError> {
    let headers = gateway.headers(stream_url).await;
    let first = open(
        dialer,
        stream_url,
        headers,
        token,
        client_id,
        client_version,
    )
    .await;
    match first.as_ref().err().and_then(OpenError::upgrade_status) {
        Some(status @ (401 | 403)) if gateway.dials_again(status) => {
            // The token was not used up: no frame has been sent.
            let headers = gateway.headers(stream_url).await;
            open(
                dialer,
                stream_url,
                headers,
                token,
                client_id,
                client_version,
            )
            .await
        }
        _ => first,
    }
}

/// Dials and writes the opening frame.
async fn open(
    dialer: &Dialer,
    stream_url: &str,
    headers: HeaderMap,
    token: &Token,
    client_id: &str,
    client_version: &str,
) -> Result<Connection, OpenError> {
    let (mut socket, pace) = dialer.dial(stream_url, headers).await?;
    let open = OpenDataChannel {
        message_schema_version: "1.0".into(),
        request_id: Uuid::new_v4().to_string().into(),
        token_value: token.secret().into(),
        client_id: client_id.into(),
        client_version: client_version.into(),
    };
    socket
        .send(Message::text(open.to_json()))
        .await
        .map_err(|e| OpenError::WebSocket(e.to_string()))?;
    Ok(Connection {
        socket,
        pace,
        unflushed: false,
        ping_due: false,
        broken: None,
    })
}

/// An open socket.
pub(super) struct Connection {
    socket: Socket,
    pace: Pace,
    unflushed: bool,
    ping_due: bool,
    broken: Option<Broken>,
}

/// A connection on which nothing can be written any more.
struct Broken {
    error: tungstenite::Error,
    /// Ends when all that came before has had the time to be read.
    patience: Pin<Box<Sleep>>,
}

/// What a turn did.
pub(super) enum SocketTurn {
    /// Frames were read (how many) or written.
    Moved { read: usize },
    /// The connection is lost; the reason is for people.
    Lost(String),
}

impl Connection {
    /// A ping goes out with the next turn.
    pub(super) fn ping(&mut self) {
        self.ping_due = true;
    }

    /// Writes what the channel has to send and, if `may_read`, hands it what has arrived. Ready as
    /// soon as anything moved.
    ///
    /// Where writing fails the connection is lost, but only once all that has arrived was read: a
    /// far end that says its last word and hangs up while something is on its way to it resets the
    /// connection, and its last word may be that the session is over.
    pub(super) fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        now: Duration,
        channel: &mut DataChannel,
        may_read: bool,
    ) -> Poll<SocketTurn> {
        let mut wrote = false;
        if self.broken.is_none() {
            match self.poll_write(cx, now, channel) {
                Ok(moved) => wrote = moved,
                Err(error) => {
                    self.broken = Some(Broken {
                        error,
                        patience: Box::pin(tokio::time::sleep(LAST_WORDS_TIMEOUT)),
                    });
                }
            }
        }
        let is_broken = self.broken.is_some();
        let (mut read, mut bytes) = (0, 0);
        // After a failure the bound on what waits for the owner does not hold: no more comes than
        // the system's buffer has.
        while (may_read || is_broken)
            && read < TURN_FRAMES
            && bytes < TURN_BYTES
            && !channel.is_over()
        {
            match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    read += 1;
                    bytes += message.len();
                    match message {
                        Message::Binary(frame) => {
                            self.pace.hear(now, frame.len());
                            drop(channel.handle_frame(now, &frame));
                        }
                        // The official client reads a text frame as the same binary layout.
                        Message::Text(text) => drop(channel.handle_frame(now, &Bytes::from(text))),
                        Message::Close(close) => {
                            let reason = close.map_or_else(String::new, |c| {
                                format!(" with {} {}", u16::from(c.code), c.reason)
                            });
                            return Poll::Ready(SocketTurn::Lost(format!(
                                "the service closed the connection{reason}"
                            )));
                        }
                        _ => {}
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(SocketTurn::Lost(describe(&error)));
                }
                Poll::Ready(None) => {
                    return Poll::Ready(SocketTurn::Lost(
                        "the service closed the connection".to_owned(),
                    ));
                }
                Poll::Pending => break,
            }
        }
        // What is at hand is not all that has arrived: the runtime may have yet to hear of it. An
        // end or an error of the reading side follows, as a rule at once.
        if read == 0
            && let Some(broken) = &mut self.broken
            && broken.patience.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(SocketTurn::Lost(describe(&broken.error)));
        }
        if wrote || read > 0 {
            Poll::Ready(SocketTurn::Moved { read })
        } else {
            Poll::Pending
        }
    }

    /// Feeds as many frames as are there, then flushes once.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Duration,
        channel: &mut DataChannel,
    ) -> Result<bool, tungstenite::Error> {
        let mut wrote = false;
        let mut drained = false;
        for _ in 0..TURN_FRAMES {
            match Pin::new(&mut self.socket).poll_ready(cx) {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(wrote),
            }
            let message = if std::mem::take(&mut self.ping_due) {
                Message::Ping(Bytes::from_static(b"keepalive"))
            } else if let Some(frame) = channel.poll_transmit(now) {
                Message::Binary(frame)
            } else {
                drained = true;
                break;
            };
            Pin::new(&mut self.socket).start_send(message)?;
            self.unflushed = true;
            wrote = true;
        }
        // With more to come the socket's own buffer decides when to write.
        if self.unflushed && drained && Pin::new(&mut self.socket).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(wrote)
    }

    /// Writes what is left and says good-bye.
    pub(super) async fn close(mut self, now: Duration, mut channel: DataChannel) {
        let written = std::future::poll_fn(|cx| {
            loop {
                match self.poll_write(cx, now, &mut channel) {
                    Ok(true) => {}
                    Ok(false) => {
                        ready!(Pin::new(&mut self.socket).poll_flush(cx)).ok();
                        return Poll::Ready(true);
                    }
                    Err(_) => return Poll::Ready(false),
                }
            }
        });
        if written.await {
            let _ = self.socket.close(None).await;
        }
    }
}

fn describe(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            "the service closed the connection".to_owned()
        }
        tungstenite::Error::Io(error) => format!("the connection broke: {error}"),
        tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => "the connection broke".to_owned(),
        other => format!("the connection broke: {other}"),
    }
}
