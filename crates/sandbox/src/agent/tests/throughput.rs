//! How fast the agent's half is by itself, with a client that costs little. Not a test of anything:
//! run with `--ignored --nocapture --test-threads 1` in an optimised build.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{Client, Message, PSH, SYN, command, frame, payload, port, smux};

const TOTAL_BYTES: usize = 200_000_000;
const WINDOW_MESSAGES: i64 = 512;

/// Prepares what is the same in all acknowledgements.
fn acknowledgement() -> BytesMut {
    let body = format!(
        r#"{{"AcknowledgedMessageType":"output_stream_data","AcknowledgedMessageId":"{}","AcknowledgedMessageSequenceNumber":{:>12},"IsSequentialMessage":true}}"#,
        uuid::Uuid::nil(),
        0
    );
    let message = Message {
        message_type: frame::ACKNOWLEDGE.into(),
        sequence_number: 0,
        flags: 3,
        message_id: uuid::Uuid::nil(),
        payload_type: 0,
        payload: body.into(),
    };
    BytesMut::from(&message.encode()[..])
}

impl Client {
    /// Takes output and acknowledges it, until there have been so many payload bytes.
    async fn swallow(&mut self, total_bytes: usize) {
        let template = acknowledgement();
        let place = template
            .windows(12)
            .position(|place| place == b"           0");
        let place = place.unwrap();
        let mut seen_bytes = 0;
        while seen_bytes < total_bytes {
            let Some(frame) = self.from_agent.recv().await else {
                panic!("ended after {seen_bytes}")
            };
            if frame[4] != b'o' {
                continue;
            }
            let number = i64::from_be_bytes(frame[48..56].try_into().unwrap());
            if number == self.expected {
                self.expected += 1;
                seen_bytes += frame.len() - 120;
            }
            let mut answer = template.clone();
            answer[place..place + 12].copy_from_slice(format!("{number:>12}").as_bytes());
            self.to_agent.send(answer.freeze()).await.unwrap();
        }
    }

    /// Sends a payload many times over, as fast as it is acknowledged.
    async fn pour(&mut self, bytes: Bytes, total_bytes: usize) {
        let count = i64::try_from(total_bytes / bytes.len()).unwrap();
        let first = self.next_number;
        let mut acknowledged = first;
        while acknowledged < first + count {
            while self.next_number < first + count
                && self.next_number < acknowledged + WINDOW_MESSAGES
            {
                self.send(payload::OUTPUT, bytes.clone()).await;
            }
            let frame = self.from_agent.recv().await.unwrap();
            acknowledged += i64::from(frame[4] == b'a');
        }
    }
}

fn report(what: &str, started: Instant) {
    let rate = TOTAL_BYTES as f64 / 1e6 / started.elapsed().as_secs_f64();
    println!("{what}: {rate:.0} MB/s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn output_of_a_command() {
    let mut client = Client::start(command("cat /dev/zero", true));
    client.shake_hands("1.2.764.0").await;
    let started = Instant::now();
    client.swallow(TOTAL_BYTES).await;
    report("command, to the client", started);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn port_sessions() {
    for (kind, name) in [(None, "raw"), (Some("LocalPortForwarding"), "multiplexed")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let number = listener.local_addr().unwrap().port();
        let mut client = Client::start(port(number, kind));
        client.shake_hands("1.2.764.0").await;
        if kind.is_some() {
            client.send_until_taken(smux(SYN, 3, b"")).await;
        }
        let (service, _) = listener.accept().await.unwrap();
        let (mut reader, mut writer) = service.into_split();
        tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(1..) = reader.read(&mut buffer).await {}
        });
        let piece = vec![7; 1016];
        let piece = match kind {
            Some(_) => smux(PSH, 3, &piece),
            None => [&piece[..], &[7; 8]].concat(),
        };
        let started = Instant::now();
        client.pour(piece.into(), TOTAL_BYTES).await;
        report(&format!("{name} port, to the service"), started);
        tokio::spawn(async move {
            let buffer = vec![7; 1 << 16];
            while writer.write_all(&buffer).await.is_ok() {}
        });
        let started = Instant::now();
        client.swallow(TOTAL_BYTES).await;
        report(&format!("{name} port, to the client"), started);
        client.cancel.cancel();
    }
}
