//! The whole sandbox over its sockets, with requests written by hand.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message as Frame};

use ops_session::wire::{Acknowledge, Header, Message, MessageType, PayloadType};

use crate::{Options, RunningSandbox, Sandbox, credentials::Key, sigv4::authorize};

mod calls;
mod channels;
mod driver;
mod hostile;
mod restart;
mod run_command;

/// A sandbox with its state in a folder that vanishes.
struct Fixture {
    sandbox: RunningSandbox,
    region: &'static str,
    _state: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The texts of all elements of this name.
    fn texts(&self, name: &str) -> Vec<&str> {
        self.body
            .split(&format!("<{name}>"))
            .skip(1)
            .map(|rest| rest.split('<').next().unwrap())
            .collect()
    }
}

impl Fixture {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut options = Options::new(state.path().join("state"));
        change(&mut options);
        Self {
            sandbox: Sandbox::start(options).await.unwrap(),
            region: "eu-west-1",
            _state: state,
        }
    }

    fn key(&self) -> Key {
        self.sandbox.app.keyring.user().clone()
    }

    async fn send(&self, request: http::Request<Vec<u8>>) -> Answer {
        let mut stream = TcpStream::connect(self.sandbox.address()).await.unwrap();
        let mut text = format!(
            "{} {} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n",
            request.method(),
            request.uri(),
            request.body().len()
        )
        .into_bytes();
        for (name, value) in request.headers() {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(request.body());
        stream.write_all(&text).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    fn request(&self, path: &str) -> http::request::Builder {
        http::Request::post(path).header("host", self.sandbox.address().to_string())
    }

    async fn query_as(&self, key: &Key, service: &str, form: &str) -> Answer {
        let request = self
            .request("/")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.as_bytes().to_vec())
            .unwrap();
        self.send(authorize(
            request,
            key,
            self.region,
            service,
            Timestamp::now(),
        ))
        .await
    }

    async fn ec2(&self, form: &str) -> Answer {
        self.query_as(&self.key(), "ec2", form).await
    }

    async fn sts(&self, form: &str) -> Answer {
        self.query_as(&self.key(), "sts", form).await
    }

    async fn json_call(&self, service: &str, target: &str, input: &Value) -> Answer {
        let request = self
            .request("/")
            .header("x-amz-target", target)
            .header("content-type", "application/x-amz-json-1.1")
            .body(input.to_string().into_bytes())
            .unwrap();
        self.send(authorize(
            request,
            &self.key(),
            self.region,
            service,
            Timestamp::now(),
        ))
        .await
    }

    async fn ssm(&self, action: &str, input: Value) -> Answer {
        self.json_call("ssm", &format!("AmazonSSM.{action}"), &input)
            .await
    }

    /// A result, or the error's code.
    async fn ssm_code(&self, action: &str, input: Value) -> Result<Value, String> {
        let answer = self.ssm(action, input).await;
        let body = answer.json();
        if answer.status.is_success() {
            return Ok(body);
        }
        Err(body["__type"].as_str().unwrap().to_owned())
    }

    async fn admin(&self, path: &str, input: &Value) -> Answer {
        let token = self.sandbox.access().admin_token.clone();
        let request = self
            .request(&format!("/_sandbox/{path}"))
            .header("x-sandbox-token", token)
            .body(input.to_string().into_bytes())
            .unwrap();
        self.send(request).await
    }

    async fn start(&self, input: Value) -> Opening {
        Opening::of(&self.ssm_code("StartSession", input).await.unwrap())
    }

    async fn resume(&self, session_id: &str) -> Opening {
        let input = json!({ "SessionId": session_id });
        Opening::of(&self.ssm_code("ResumeSession", input).await.unwrap())
    }
}

#[derive(Clone, Debug)]
struct Opening {
    session_id: String,
    url: String,
    token: String,
}

impl Opening {
    fn of(output: &Value) -> Self {
        let text = |name: &str| output[name].as_str().unwrap().to_owned();
        Self {
            session_id: text("SessionId"),
            url: text("StreamUrl"),
            token: text("TokenValue"),
        }
    }
}

/// A data channel with just as much of a client as the tests need.
struct Channel {
    socket: WebSocketStream<TcpStream>,
    next_number: i64,
    expected: i64,
    closed: Option<Value>,
}

impl Channel {
    async fn open(opening: &Opening) -> Self {
        let mut channel = Self::dial(opening).await;
        let open = json!({
            "MessageSchemaVersion": "1.0",
            "RequestId": uuid::Uuid::new_v4().to_string(),
            "TokenValue": opening.token,
        });
        channel
            .socket
            .send(Frame::text(open.to_string()))
            .await
            .unwrap();
        channel
    }

    async fn dial(opening: &Opening) -> Self {
        let address = opening
            .url
            .strip_prefix("ws://")
            .unwrap()
            .split('/')
            .next()
            .unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(&opening.url, stream)
            .await
            .unwrap();
        Self {
            socket,
            next_number: 0,
            expected: 0,
            closed: None,
        }
    }

    async fn input(&mut self, payload_type: PayloadType, payload: &[u8]) {
        let number = self.next_number;
        self.next_number += 1;
        self.input_as(number, payload_type, payload).await;
    }

    async fn input_as(&mut self, number: i64, payload_type: PayloadType, payload: &[u8]) {
        let header = header(MessageType::InputStreamData, number, payload_type, 0);
        self.send(header.encode(payload)).await;
    }

    async fn send(&mut self, frame: Bytes) {
        // A socket that is gone shows when it is read.
        let _ = self.socket.send(Frame::binary(frame)).await;
    }

    /// The next message that is not the repetition of another, acknowledged; `None` when the socket
    /// is gone.
    async fn message(&mut self) -> Option<(Header, Bytes)> {
        loop {
            let frame = match self.socket.next().await? {
                Ok(Frame::Binary(frame)) => frame,
                Ok(_) => continue,
                Err(_) => return None,
            };
            let Ok(Message {
                header: got,
                payload,
                ..
            }) = Message::decode(&frame)
            else {
                continue;
            };
            if got.message_type == MessageType::ChannelClosed {
                self.closed = Some(serde_json::from_slice(payload).unwrap());
            }
            if got.message_type == MessageType::OutputStreamData {
                let acknowledge = Acknowledge {
                    message_type: got.message_type,
                    message_id: got.message_id,
                    sequence_number: got.sequence_number,
                };
                let mut body = bytes::BytesMut::new();
                acknowledge.payload_into(&mut body);
                let reply = header(MessageType::Acknowledge, 0, PayloadType::None, 3);
                self.send(reply.encode(&body)).await;
                if got.sequence_number != self.expected {
                    continue;
                }
                self.expected += 1;
            }
            return Some((got, Bytes::copy_from_slice(payload)));
        }
    }

    /// Reads output until it holds `wanted`.
    async fn until(&mut self, wanted: &str) -> String {
        let mut text = String::new();
        while !text.contains(wanted) {
            let (header, payload) = self
                .message()
                .await
                .unwrap_or_else(|| panic!("no {wanted:?} in {text:?}"));
            if header.payload_type == PayloadType::Output {
                text.push_str(&String::from_utf8_lossy(&payload));
            }
        }
        text
    }

    /// The text with which the session closed; fails if the socket ends without one.
    async fn closing(&mut self) -> String {
        while self.closed.is_none() {
            self.message().await.expect("no channel_closed");
        }
        self.closed.as_ref().unwrap()["Output"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

fn header(
    message_type: MessageType,
    sequence_number: i64,
    payload_type: PayloadType,
    flags: u64,
) -> Header {
    Header {
        message_type,
        schema_version: 1,
        created_ms: 1_700_000_000_000,
        sequence_number,
        flags,
        message_id: uuid::Uuid::new_v4(),
        payload_type,
    }
}
