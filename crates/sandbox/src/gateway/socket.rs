//! One web socket of a client, from the upgrade to the frames.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _, stream::SplitStream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::Session;

pub(crate) use tokio_tungstenite::tungstenite::handshake::derive_accept_key as accept_key;

/// Messages above this are refused; the largest that a client has reason to send is 32 KiB and a
/// header.
const MESSAGE_BOUND_BYTES: usize = 1 << 20;
/// Cleared before each read, so not larger than what one read brings as a rule.
const READ_BUFFER_BYTES: usize = 32 << 10;
/// How long a fresh web socket may take to show its token.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to read what it was sent last, and to hang up.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that wait for the writer of one web socket.
const WRITER_BOUND: usize = 256;

pub(super) type Reader = SplitStream<WebSocketStream<TokioIo<Upgraded>>>;

/// An open web socket whose token was good.
#[derive(Debug)]
pub(crate) struct WebSocket {
    pub(super) reader: Reader,
    pub(super) writer: mpsc::Sender<Message>,
    pub(super) task: JoinHandle<()>,
}

/// The first frame of a client; what else it holds is not looked at.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OpenFrame {
    token_value: String,
}

impl Session {
    /// Waits for the open frame, checks its token and hands the web socket to the session. A wrong
    /// or used token closes it.
    pub(crate) async fn attach(self: Arc<Self>, upgraded: Upgraded) {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(MESSAGE_BOUND_BYTES))
            .max_frame_size(Some(MESSAGE_BOUND_BYTES));
        let stream =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config))
                .await;
        let (sink, mut reader) = stream.split();
        let (writer, mut outgoing) = mpsc::channel::<Message>(WRITER_BOUND);
        let task = tokio::spawn(async move {
            let mut sink = sink;
            while let Some(message) = outgoing.recv().await {
                if sink.feed(message).await.is_err() {
                    return;
                }
                while let Ok(message) = outgoing.try_recv() {
                    if sink.feed(message).await.is_err() {
                        return;
                    }
                }
                if sink.flush().await.is_err() {
                    return;
                }
            }
        });
        let opened = tokio::select! {
            () = self.cancel.cancelled() => None,
            opened = tokio::time::timeout(OPEN_TIMEOUT, open_frame(&mut reader)) => opened.ok().flatten(),
        };
        let is_good = opened.is_some_and(|frame| self.take_token(&frame.token_value));
        let socket = WebSocket {
            reader,
            writer,
            task,
        };
        if !is_good {
            return socket.close(CloseCode::Policy, "Invalid token").await;
        }
        // Fails only if the session has just ended; dropping the socket is the answer then.
        let _ = self.attach.send(socket).await;
    }
}

impl WebSocket {
    /// Closes it behind what was written. The client hangs up first, or else its unread messages
    /// would turn the close into a reset.
    pub(super) async fn close(self, code: CloseCode, reason: &'static str) {
        let Self {
            mut reader,
            writer,
            task,
        } = self;
        let closing = async {
            let _ = writer.send(close(code, reason)).await;
            drop(writer);
            let _ = task.await;
            // What comes now goes nowhere.
            while reader.next().await.is_some_and(|message| message.is_ok()) {}
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    }
}

async fn open_frame(reader: &mut Reader) -> Option<OpenFrame> {
    loop {
        match reader.next().await?.ok()? {
            Message::Text(text) => return serde_json::from_str(text.as_str()).ok(),
            Message::Ping(_) | Message::Pong(_) => {}
            _ => return None,
        }
    }
}

fn close(code: CloseCode, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }))
}
