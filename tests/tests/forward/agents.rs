//! Agents of other versions.

use std::{
    io::{Read as _, Write as _},
    sync::mpsc,
    thread,
};

use ops_tests::{lab::PATIENCE, service::Service};

use crate::{
    far::{pattern, store, upload},
    tunnel::{Forward, OPS, service, spec},
};

#[test]
fn an_agent_without_multiplexer_serves_several_clients_all_the_same() {
    let service = service();
    let forward = Forward::start(&service, &["legacy-1", "0:7"]);
    let streams: Vec<_> = (0..3).map(|_| forward.connect()).collect();
    for (number, mut stream) in streams.into_iter().enumerate() {
        let sent = pattern(number, 50_000);
        stream.write_all(&sent).expect("it is sent");
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back).expect("an echo");
        assert!(back == sent);
    }
    forward.end();
}

#[test]
fn an_agent_without_multiplexer_is_not_asked_for_any_number_of_sessions() {
    const MOST: usize = 24;
    let service = service();
    let forward = Forward::start(&service, &["legacy-1", "0:7"]);
    let mut streams: Vec<_> = (0..MOST + 2).map(|_| Some(forward.connect())).collect();
    let (answered, answers) = mpsc::channel();
    for (number, stream) in streams.iter().flatten().enumerate() {
        let (mut stream, answered) = (stream.try_clone().expect("a clone"), answered.clone());
        thread::spawn(move || {
            stream.write_all(b"x").expect("it is sent");
            if stream.read_exact(&mut [0; 1]).is_ok() {
                let _ = answered.send(number);
            }
        });
    }
    let next = || answers.recv_timeout(PATIENCE).expect("an answer");
    let first: Vec<_> = (0..MOST).map(|_| next()).collect();
    let starts = || {
        let calls = service.calls();
        calls.iter().filter(|call| *call == "StartSession").count()
    };
    // The one that showed that there is no multiplexer may have been of no use.
    assert!(starts() <= MOST + 1, "{} sessions", starts());
    for number in &first[..2] {
        drop(streams[*number].take());
    }
    let mut rest = [next(), next()];
    rest.sort_unstable();
    let expected: Vec<_> = (0..MOST + 2).filter(|n| !first.contains(n)).collect();
    assert_eq!(rest[..], expected);
    forward.end();
}

#[test]
fn large_payloads_are_given_up_where_they_do_not_arrive() {
    let service = Service::start(OPS, "max-input=1024");
    let port = store();
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    upload(forward.port(0), 4 << 20);
    let told = forward.end();
    assert!(!told.contains("lost"), "{told}");
}

#[test]
fn an_old_multiplexer_is_kept_alive_and_asked_for_no_large_payloads() {
    let service = Service::start(OPS, "agent-version=3.1.1511.0,max-input=1024");
    let port = store();
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    upload(forward.port(0), 1 << 20);
    forward.end();
}

#[test]
fn a_service_that_does_not_survive_large_frames_gets_small_ones_after_one_lost_connection() {
    for how in ["close", "reset"] {
        let service = Service::start(OPS, &format!("max-frame=8KiB/{how}"));
        let port = store();
        let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1", "-v"]);
        upload(forward.port(0), 4 << 20);
        let told = forward.end();
        assert_eq!(told.matches("connection lost").count(), 1, "{how}: {told}");
        assert_eq!(service.sessions().len(), 1, "{how}: {told}");
    }
}

#[test]
fn a_large_frame_that_is_lost_without_a_word_is_given_up() {
    let service = Service::start(OPS, "max-frame=8KiB/drop");
    let port = store();
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1", "-v"]);
    upload(forward.port(0), 4 << 20);
    let told = forward.end();
    assert!(!told.contains("connection lost"), "{told}");
}

#[test]
fn a_limit_that_comes_later_ends_the_session_once_and_is_remembered_for_the_server() {
    let service = service();
    let port = store();
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1", "-v"]);
    // Large payloads are in use before the limit comes.
    upload(forward.port(0), 1 << 20);
    service.set_faults("max-frame=8KiB");
    let mut stream = forward.connect();
    let error = writeln!(stream, "-{}", 4 << 20)
        .and_then(|()| stream.write_all(&pattern(0, 4 << 20)))
        .and_then(|()| stream.read_exact(&mut [0; 1]))
        .expect_err("its session is gone");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    forward
        .told
        .wait_for("payloads of that size do not get through");
    forward.told.wait_for("a new session is open");
    upload(forward.port(0), 1 << 20);
    let told = forward.end();
    assert_eq!(told.matches("connection lost").count(), 2, "{told}");
    // Another process knows it too, for a day.
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1", "-v"]);
    upload(forward.port(0), 1 << 20);
    let told = forward.end();
    assert!(!told.contains("connection lost"), "{told}");
}
