use std::io::ErrorKind;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc, watch};

use super::*;
use crate::closing::Closing;
use crate::driver::{Events, Gauge, SenderCommand, SessionError, Status};
use crate::smux::{self, Server};
use crate::wire::PayloadType;

/// The agent's end of a session without a socket.
struct AgentEnd {
    commands: mpsc::UnboundedReceiver<SenderCommand>,
    events: mpsc::UnboundedSender<Event>,
    gauge: Arc<Gauge>,
    room: Arc<Semaphore>,
    server: Server,
    flags: Vec<Bytes>,
    probes: usize,
    // Keeps the sender's view of the session alive.
    status: watch::Sender<Status>,
}

impl AgentEnd {
    /// Waits for the next thing the client says on a stream.
    async fn next(&mut self) -> smux::Event {
        loop {
            if let Some(event) = self.server.poll_event() {
                return event;
            }
            match self.commands.recv().await.expect("the client is there") {
                SenderCommand::Send(PayloadType::Output, bytes) => {
                    self.room.add_permits(bytes.len());
                    self.server.handle_input(bytes).expect("smux");
                }
                SenderCommand::Send(_, bytes) => self.flags.push(bytes),
                SenderCommand::Probe(_, large, small) => {
                    assert_eq!(large.len(), 4096);
                    assert_eq!(small, large.slice(..8));
                    self.server.handle_input(large).expect("keep-alive frames");
                    self.probes += 1;
                    self.status.send_modify(|status| {
                        status.probe_len = None;
                        status.max_payload = 4096;
                    });
                }
                SenderCommand::Drained(done) => drop(done.send(())),
                SenderCommand::Plain | SenderCommand::Close => {}
            }
        }
    }

    fn say(&mut self, event: Event) {
        self.gauge.add(event.weight());
        self.events.send(event).expect("the client listens");
    }

    /// Sends what waits in the server, in messages of the agent's size.
    fn transmit(&mut self) {
        while let Some(payload) = self.server.poll_transmit(1024) {
            self.say(Event::Output(payload));
        }
    }

    fn write(&mut self, id: StreamId, len: usize) {
        self.server.write(id, Bytes::from(vec![b'x'; len]));
        self.transmit();
    }
}

fn session() -> (Session, AgentEnd) {
    let (commands, command_receiver) = mpsc::unbounded_channel();
    let (event_sender, receiver) = mpsc::unbounded_channel();
    let bound = 64 << 10;
    let room = Arc::new(Semaphore::new(bound));
    let gauge = Arc::new(Gauge::new(1 << 20));
    let (status, stats) = watch::channel(Status {
        max_payload: 1024,
        ..Status::default()
    });
    let session = Session {
        sender: Sender {
            commands,
            room: room.clone(),
            bound,
            stats,
        },
        events: Events {
            receiver,
            gauge: gauge.clone(),
        },
    };
    let far = AgentEnd {
        commands: command_receiver,
        events: event_sender,
        gauge,
        room,
        server: Server::new(),
        flags: Vec::new(),
        probes: 0,
        status,
    };
    (session, far)
}

fn small() -> MuxOptions {
    MuxOptions {
        stream_bound: 8 << 10,
        session_bound: 16 << 10,
        crowded_bound: 2 << 10,
        blocked_after: Duration::from_millis(20),
        ..MuxOptions::default()
    }
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_far_close_is_an_end_of_file() {
    let (session, mut far) = session();
    let (mux, _notices) = Mux::new(session, MuxOptions::default());
    let mut stream = mux.open().unwrap();
    stream.write_all(b"question").await.unwrap();
    let smux::Event::Opened(id) = far.next().await else {
        panic!("a stream is opened first")
    };
    assert_eq!(
        far.next().await,
        smux::Event::Data(id, Bytes::from_static(b"question"))
    );
    far.server.write(id, Bytes::from_static(b"answer"));
    far.server.close(id);
    far.transmit();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
    let error = stream.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_client_that_stops_sending_still_gets_the_whole_answer() {
    let (session, mut far) = session();
    let (mux, _notices) = Mux::new(session, MuxOptions::default());
    let mut stream = mux.open().unwrap();
    stream.write_all(b"q").await.unwrap();
    stream.shutdown().await.unwrap();
    let other = mux.open().unwrap();
    let smux::Event::Opened(id) = far.next().await else {
        panic!("a stream is opened first")
    };
    assert_eq!(
        far.next().await,
        smux::Event::Data(id, Bytes::from_static(b"q"))
    );
    // No close in between.
    assert_eq!(far.next().await, smux::Event::Opened(other.id()));
    far.write(id, 100_000);
    far.server.close(id);
    far.transmit();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.len(), 100_000);
    drop(stream);
    drop(other);
    assert!(matches!(far.next().await, smux::Event::Finished(_)));
}

// One worker, which runs what a task has woken right after that task: there each write woke the
// sender before the next task had its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_that_speak_at_once_share_a_message() {
    const COUNT: usize = 20;
    let (session, mut agent) = session();
    let (mux, _notices) = Mux::new(session, small());
    let writers = tokio::spawn(async move {
        let open = |_| {
            let mux = mux.clone();
            tokio::spawn(async move {
                let mut stream = mux.open().expect("a stream");
                stream.write_all(b"hello").await.expect("room");
                stream
            })
        };
        (0..COUNT).map(open).collect::<Vec<_>>()
    });
    let mut streams = Vec::new();
    for writer in writers.await.expect("writers") {
        streams.push(writer.await.expect("a writer"));
    }
    let (mut said, mut messages) = (0, 0);
    while said < COUNT * b"hello".len() {
        let Some(SenderCommand::Send(PayloadType::Output, bytes)) = agent.commands.recv().await
        else {
            continue;
        };
        messages += 1;
        agent.server.handle_input(bytes).expect("smux");
        while let Some(event) = agent.server.poll_event() {
            if let smux::Event::Data(_, data) = event {
                said += data.len();
            }
        }
    }
    assert!(messages <= 3, "{messages} messages");
}

#[tokio::test]
async fn a_refused_destination_is_an_error_of_its_own_kind() {
    let (session, mut far) = session();
    let (mux, _notices) = Mux::new(session, MuxOptions::default());
    let mut stream = mux.open().unwrap();
    let smux::Event::Opened(id) = far.next().await else {
        panic!("a stream is opened first")
    };
    far.say(Event::Flag(Flag::ConnectToPortError.into()));
    far.server.close(id);
    far.transmit();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_reader_that_stops_is_reset_when_it_has_held_up_others_too_long() {
    let (session, mut far) = session();
    let (mux, mut notices) = Mux::new(session, small());
    let mut stuck = mux.open().unwrap();
    let mut other = mux.open().unwrap();
    far.next().await;
    far.next().await;
    far.write(stuck.id(), 100_000);
    far.write(other.id(), 10);
    let mut answer = [0; 10];
    other.read_exact(&mut answer).await.unwrap();
    assert!(matches!(
        notices.recv().await,
        Some(Notice::Blocked { id, .. }) if id == stuck.id()
    ));
    let error = stuck.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(!mux.is_blocked());
}

#[tokio::test]
async fn clients_that_wait_and_give_up_in_turn_do_not_put_off_the_reset() {
    let (session, mut far) = session();
    let (mux, mut notices) = Mux::new(session, small());
    let stuck = mux.open().unwrap();
    far.next().await;
    far.write(stuck.id(), 100_000);
    let resets = async {
        loop {
            drop(mux.open().unwrap());
            if let Ok(notice) = notices.try_recv() {
                return notice;
            }
            // One that has come by the time the reset is due is enough.
            let _waiting = mux.open().unwrap();
            tokio::task::yield_now().await;
        }
    };
    let notice = tokio::time::timeout(Duration::from_secs(20), resets).await;
    assert!(matches!(notice, Ok(Notice::Blocked { id, .. }) if id == stuck.id()));
}

#[tokio::test]
async fn a_reader_that_was_alone_is_not_reset_as_soon_as_another_comes() {
    let (session, mut far) = session();
    let options = MuxOptions {
        blocked_after: Duration::from_secs(3600),
        ..small()
    };
    let (mux, _notices) = Mux::new(session, options);
    let stuck = mux.open().unwrap();
    far.next().await;
    far.write(stuck.id(), 100_000);
    while !mux.is_blocked() {
        tokio::task::yield_now().await;
    }
    let _other = mux.open().unwrap();
    let (sender, mut told) = mpsc::unbounded_channel();
    // It has not been read for less than this.
    task::reset_blocking(&mux.shared, &sender, Duration::from_secs(30));
    assert!(told.try_recv().is_err());
    task::reset_blocking(&mux.shared, &sender, Duration::ZERO);
    assert!(matches!(told.try_recv(), Ok(Notice::Blocked { id, .. }) if id == stuck.id()));
}

#[tokio::test]
async fn a_reader_that_stops_and_is_alone_may_take_its_time() {
    let (session, mut far) = session();
    let (mux, mut notices) = Mux::new(session, small());
    let mut stuck = mux.open().unwrap();
    far.next().await;
    far.write(stuck.id(), 100_000);
    while !mux.is_blocked() {
        tokio::task::yield_now().await;
    }
    let (sender, _) = mpsc::unbounded_channel();
    task::reset_blocking(&mux.shared, &sender, Duration::from_secs(30));
    assert!(notices.try_recv().is_err());
    let bound = small().stream_bound + 1024;
    assert!(mux.held_bytes() <= bound, "{}", mux.held_bytes());
    let mut all = vec![0; 100_000];
    stuck.read_exact(&mut all).await.unwrap();
    assert!(all.iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn large_payloads_are_asked_for_between_frames_once_there_is_bulk() {
    let (session, mut far) = session();
    far.status
        .send_modify(|status| status.probe_len = Some(4096));
    let (mux, _notices) = Mux::new(session, MuxOptions::default());
    let mut stream = mux.open().unwrap();
    let writer = tokio::spawn(async move {
        stream.write_all(&vec![7; 300_000]).await.unwrap();
        stream
    });
    let mut received = 0;
    while received < 300_000 {
        if let smux::Event::Data(_, data) = far.next().await {
            received += data.len();
        }
    }
    assert_eq!(far.probes, 1);
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn the_end_of_the_session_is_no_end_of_file() {
    let (session, mut far) = session();
    let (mux, mut notices) = Mux::new(session, MuxOptions::default());
    let mut stream = mux.open().unwrap();
    far.next().await;
    far.say(Event::Disconnected {
        reason: "the connection broke".to_owned(),
    });
    far.say(Event::Closed(Closing::of("idle for too long")));
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert!(error.to_string().contains("idle for too long"));
    assert!(matches!(
        notices.recv().await,
        Some(Notice::Session(Event::Disconnected { .. }))
    ));
    assert!(!mux.is_open());
    assert!(mux.open().is_err());
}

#[test]
fn why_a_session_failed_is_told_whichever_half_notices_the_end_first() {
    // The receiving half finds two things at once and takes one of them by chance. On a thread of
    // its own, so that a half that waits for itself fails the test in place of stopping it.
    let (told, is_told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for _ in 0..50 {
            let notice = runtime.block_on(async {
                let (session, mut far) = session();
                let (mux, mut notices) = Mux::new(session, MuxOptions::default());
                let mut stream = mux.open().unwrap();
                far.next().await;
                // The sending half is woken first.
                stream.write_all(b"more").await.unwrap();
                far.say(Event::Failed(SessionError::Gone("idle".to_owned())));
                // As the driver leaves a session that has failed: nothing can be sent any more.
                far.room.close();
                notices.recv().await
            });
            told.send(notice).unwrap();
        }
    });
    for _ in 0..50 {
        let notice = is_told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(matches!(notice, Some(Notice::Session(Event::Failed(_)))));
    }
}

#[tokio::test]
async fn an_end_is_asked_of_the_agent() {
    let (session, mut far) = session();
    let (mux, _notices) = Mux::new(session, MuxOptions::default());
    let ending = tokio::spawn(async move { mux.terminate().await });
    loop {
        match far.commands.recv().await {
            Some(SenderCommand::Send(PayloadType::Flag, bytes)) => {
                assert_eq!(bytes, Flag::TerminateSession.payload());
                break;
            }
            Some(_) => {}
            None => panic!("the flag is sent"),
        }
    }
    far.say(Event::Closed(Closing::of("")));
    ending.await.unwrap();
}
