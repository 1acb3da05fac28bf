//! Connections that share sessions.

use std::{
    io::{Read as _, Write as _},
    sync::Barrier,
    thread,
};

use ops_tests::service::Service;
use serde_json::Value;

use crate::{
    far::{CHUNK, connect, download, echo, echoes, flood, store},
    tunnel::{Forward, OPS, all_terminated, ops, service, spec, wait_until},
};

#[test]
fn while_connections_are_busy_others_get_a_session_of_their_own() {
    let (service, flood, port) = (service(), flood(), echo());
    let forward = Forward::start(&service, &["web-1", &spec(flood), &spec(port)]);
    let mut bulk = connect(forward.port(0));
    let reading =
        thread::spawn(move || while bulk.read(&mut [0; CHUNK]).is_ok_and(|len| len > 0) {});
    let sessions = || {
        let status = ops(&service, &["forward", "--status", "-o", "json"]);
        let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
        [0, 1].map(|row| {
            status["forwards"][row]["sessions"]
                .as_u64()
                .expect("a number")
        })
    };
    // The destination that is used gets a spare one, the other does not.
    wait_until("a further session", || sessions()[0] > 1);
    assert_eq!(sessions()[1], 1);
    echoes(&mut connect(forward.port(1)));
    forward.end();
    reading.join().expect("the reader");
    assert!(all_terminated(&service));
}

#[test]
fn connections_that_start_together_are_spread_over_sessions_that_nothing_was_known_of() {
    // Long enough that all of them come while the first further session is on its way.
    let (service, port) = (Service::start(OPS, "slow=ssm:StartSession/2s"), echo());
    let forward = Forward::start(&service, &["web-1", &spec(port), "-vv"]);
    let begin = Barrier::new(4);
    let mut streams: Vec<_> = thread::scope(|scope| {
        let started: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    begin.wait();
                    let mut stream = forward.connect();
                    echoes(&mut stream);
                    stream
                })
            })
            .collect();
        started
            .into_iter()
            .map(|one| one.join().expect("an echo"))
            .collect()
    });
    // Quiet as they are, no rate has told that they need one each.
    assert_eq!(service.sessions().len(), 4);
    streams.iter_mut().for_each(echoes);
    let told = forward.end();
    for session in 1..=4 {
        let placed = format!(": open, session {session}\n");
        assert_eq!(told.matches(&placed).count(), 1, "{session}: {told}");
    }
}

#[test]
fn while_one_session_is_used_another_is_open_and_no_more() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    let mut stream = forward.connect();
    echoes(&mut stream);
    wait_until("a spare session", || service.sessions().len() == 2);
    echoes(&mut stream);
    assert_eq!(service.sessions().len(), 2);
    forward.end();
}

#[test]
fn a_session_whose_agent_is_silent_gets_no_new_connections_and_keeps_its_own() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1"]);
    let mut old = forward.connect();
    echoes(&mut old);
    // More messages than the next session will need, so that only this one falls silent.
    service.set_faults("silent-after=60");
    let timeout = Some(std::time::Duration::from_secs(1));
    old.set_read_timeout(timeout).expect("a timeout");
    while old.write_all(b"x").is_ok() && old.read_exact(&mut [0; 1]).is_ok() {}
    forward.told.wait_for("the agent has not answered for 10 s");
    echoes(&mut forward.connect());
    assert_eq!(service.sessions().len(), 2);
    assert!(
        service
            .sessions()
            .iter()
            .all(|status| status == "Connected")
    );
    forward.end();
}

#[test]
fn a_client_that_stops_reading_is_reset_for_the_sake_of_those_who_wait() {
    let (service, port) = (service(), store());
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1"]);
    let mut stuck = forward.connect();
    writeln!(stuck, "{}", 256 << 20).expect("it is sent");
    // As long as it is alone it may take its time. Everything on the way fills up, and then nothing
    // moves any more.
    let moved = || {
        let status = ops(&service, &["forward", "--status", "-o", "json"]);
        let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
        status["forwards"][0]["bytesDown"]
            .as_u64()
            .expect("a number")
    };
    wait_until("everything stands still", || {
        let before = moved();
        // Each look takes a process of its own, and bytes would pass meanwhile.
        before > 1 << 20 && (0..20).all(|_| before == moved())
    });
    // Whoever comes now is held up until the first has read nothing for 30 s.
    download(forward.port(0), 100_000);
    forward
        .told
        .wait_for("reset a connection whose client has read nothing for 30 s");
    let error = loop {
        match stuck.read(&mut [0; CHUNK]) {
            Ok(0) => panic!("an orderly end in the middle"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    forward.end();
}
