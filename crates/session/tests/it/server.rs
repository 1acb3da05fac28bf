//! A loopback web socket server with the agent's half of a data channel behind it, for tests of the
//! driver.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use http::HeaderMap;
use ops_session::driver::{
    self, DataKey, DataKeyRequest, Expect, Gateway, LargePayloads, NoDataKey, Opening, Options,
    Proxy, ResumeError, Resumed, Session, Token,
};
use ops_session::wire::PayloadType;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::agent::{AgentChannel, AgentEvent, End as _};
use crate::kms::data_key;

/// A test that hangs fails after this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The result of `work`, which must not take forever.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("it takes forever")
}

/// Answers ResumeSession with `token-2`, `token-3`, … unless a test has put something else first.
#[derive(Default)]
pub(crate) struct Service {
    pub(crate) answers: Mutex<VecDeque<ResumeError>>,
    /// The stream URL in the next answer.
    pub(crate) moved: Mutex<Option<String>>,
    pub(crate) resumed: AtomicUsize,
    /// What [`Gateway::large_payloads_lost`] was told.
    pub(crate) large_lost: Mutex<Vec<LargePayloads>>,
    /// What data keys were asked for.
    pub(crate) data_keys_asked: Mutex<Vec<DataKeyRequest>>,
    /// Why there is none.
    pub(crate) no_data_key: Mutex<Option<String>>,
    /// What each waits for.
    data_key_gate: Mutex<Option<Arc<Notify>>>,
    signed: AtomicUsize,
}

impl Service {
    /// Data keys come only once the gate is opened.
    pub(crate) fn hold_data_keys(&self) -> Arc<Notify> {
        let gate = Arc::<Notify>::default();
        *self.data_key_gate.lock().unwrap() = Some(gate.clone());
        gate
    }
}

impl Gateway for Service {
    fn data_key<'a>(
        &'a self,
        session_id: &'a str,
        wanted: DataKeyRequest,
    ) -> BoxFuture<'a, Result<DataKey, NoDataKey>> {
        assert_eq!(session_id, "session-1");
        async move {
            self.data_keys_asked.lock().unwrap().push(wanted);
            let gate = self.data_key_gate.lock().unwrap().clone();
            if let Some(gate) = gate {
                gate.notified().await;
            }
            match self.no_data_key.lock().unwrap().clone() {
                Some(why) => Err(NoDataKey(why)),
                None => Ok(data_key()),
            }
        }
        .boxed()
    }

    fn headers<'a>(&'a self, _stream_url: &'a str) -> BoxFuture<'a, HeaderMap> {
        let n = self.signed.fetch_add(1, Ordering::SeqCst) + 1;
        let mut headers = HeaderMap::new();
        headers.insert("x-signed", n.into());
        std::future::ready(headers).boxed()
    }

    fn resume<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Resumed, ResumeError>> {
        assert_eq!(session_id, "session-1");
        let result = match self.answers.lock().unwrap().pop_front() {
            Some(error) => Err(error),
            None => Ok(Resumed {
                stream_url: self.moved.lock().unwrap().take(),
                token: Token::new(format!(
                    "token-{}",
                    self.resumed.fetch_add(1, Ordering::SeqCst) + 2
                )),
            }),
        };
        std::future::ready(result).boxed()
    }

    fn large_payloads_lost(&self, loss: LargePayloads) {
        self.large_lost.lock().unwrap().push(loss);
    }
}

/// Options for loopback: no proxy from the environment, quick repetition.
pub(crate) fn options() -> Options {
    Options {
        expect: Expect::MaybePlain,
        proxy: Proxy::none(),
        resume_delays: (Duration::from_millis(1), Duration::from_millis(5)),
        ..Options::default()
    }
}

pub(crate) fn opening(stream_url: &str) -> Opening {
    Opening {
        session_id: "session-1".to_owned(),
        stream_url: stream_url.to_owned(),
        token: Token::new("token-1"),
    }
}

/// A listening socket that takes one connection at a time.
pub(crate) struct Server {
    listener: TcpListener,
    pub(crate) url: String,
    pub(crate) service: Arc<Service>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "ws://{}/v1/data-channel/session-1?role=publish_subscribe&cell-number=AA%2B%2F==",
            listener.local_addr().unwrap()
        );
        Self {
            listener,
            url,
            service: Arc::default(),
        }
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// The next connection, with its upgrade and opening frame read.
    pub(crate) async fn accept(&self) -> AgentSide {
        AgentSide::accept(self.tcp().await).await
    }

    /// Opens a session to this server and takes its connection.
    pub(crate) async fn open(&self, options: Options) -> (Session, AgentSide) {
        let open = driver::open(opening(&self.url), self.service.clone(), options);
        let (session, far) = tokio::join!(open, self.accept());
        (session.unwrap(), far)
    }

    /// A session of a plain shell that has printed `$ `, and its agent.
    pub(crate) async fn shell(&self, options: Options) -> (Session, Agent) {
        let (mut session, far) = self.open(options).await;
        let mut agent = Agent::new(far);
        agent
            .channel
            .send(PayloadType::Output, Bytes::from_static(b"$ "));
        agent.flush().await;
        assert!(matches!(
            soon(session.events.next()).await,
            Some(driver::Event::Ready(_))
        ));
        assert_eq!(
            soon(session.events.next()).await,
            Some(driver::Event::Output(Bytes::from_static(b"$ ")))
        );
        (session, agent)
    }
}

/// A connection as the service sees it.
pub(crate) struct AgentSide<S = TcpStream> {
    pub(crate) socket: WebSocketStream<S>,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// The opening frame.
    pub(crate) open: Value,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AgentSide<S> {
    pub(crate) async fn accept(stream: S) -> Self {
        let (mut path, mut headers) = (String::new(), HeaderMap::new());
        #[allow(clippy::result_large_err)] // The signature is the library's.
        let look = |request: &Request, response: Response| {
            path = request.uri().to_string();
            headers = request.headers().clone();
            Ok(response)
        };
        let mut socket = soon(tokio_tungstenite::accept_hdr_async(stream, look))
            .await
            .unwrap();
        let Some(Ok(Message::Text(open))) = soon(socket.next()).await else {
            panic!("the first frame is not text");
        };
        Self {
            socket,
            path,
            headers,
            open: serde_json::from_str(&open).unwrap(),
        }
    }

    pub(crate) async fn send(&mut self, frame: Bytes) {
        soon(self.socket.send(Message::Binary(frame)))
            .await
            .unwrap();
    }
}

/// An agent core behind a connection.
pub(crate) struct Agent {
    pub(crate) far: AgentSide,
    pub(crate) channel: AgentChannel,
    origin: Instant,
    /// What has been received, of type Output.
    pub(crate) received: Vec<u8>,
}

impl Agent {
    pub(crate) fn new(far: AgentSide) -> Self {
        Self {
            far,
            channel: AgentChannel::new(Duration::ZERO),
            origin: Instant::now(),
            received: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The same agent behind the next connection.
    pub(crate) async fn reattach(&mut self, server: &Server) {
        self.far = server.accept().await;
        let now = self.now();
        self.channel.on_reconnected(now);
    }

    /// Ends the connection without a word; what the client has sent on it and the agent has not
    /// read is lost.
    pub(crate) async fn cut(&mut self) {
        self.channel.on_disconnected();
        self.far.socket.get_mut().shutdown().await.unwrap();
    }

    pub(crate) async fn flush(&mut self) {
        while let Some(frame) = self.channel.poll_transmit(self.now()) {
            self.far.send(frame).await;
        }
    }

    /// Serves until the agent's core has an event other than plain input, which is collected.
    pub(crate) async fn event(&mut self) -> AgentEvent {
        soon(async {
            loop {
                if let Some(event) = self.step().await {
                    return event;
                }
            }
        })
        .await
    }

    /// Serves until this much input was received.
    pub(crate) async fn receive(&mut self, len: usize) {
        soon(async {
            while self.received.len() < len {
                self.step().await;
            }
        })
        .await;
    }

    /// Takes what has come; waits for more if nothing has.
    pub(crate) async fn step(&mut self) -> Option<AgentEvent> {
        let before = self.received.len();
        while let Some(event) = self.channel.poll_event() {
            let now = self.now();
            match event {
                AgentEvent::Data {
                    payload_type: PayloadType::Output,
                    payload,
                } => {
                    self.received.extend_from_slice(&payload);
                    self.channel.acknowledge(now);
                }
                AgentEvent::Data { .. } => {
                    self.channel.acknowledge(now);
                    return Some(event);
                }
                other => return Some(other),
            }
        }
        self.flush().await;
        if self.received.len() > before {
            return None;
        }
        let wake = self
            .channel
            .poll_timeout()
            .map_or_else(|| Instant::now() + PATIENCE, |at| self.origin + at);
        tokio::select! {
            message = self.far.socket.next() => match message {
                Some(Ok(Message::Binary(frame))) => {
                    let now = self.now();
                    self.channel.handle_frame(now, &frame).unwrap();
                }
                Some(Ok(_)) => {}
                other => panic!("the client has left: {other:?}"),
            },
            () = tokio::time::sleep_until(wake) => {
                let now = self.now();
                self.channel.handle_timeout(now);
            }
        }
        None
    }
}
