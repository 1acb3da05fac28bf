//! Connections that share sessions.

use std::{
    io::{Read as _, Write as _},
    thread,
};

use serde_json::Value;

use crate::{
    far::{CHUNK, connect, download, echo, echoes, flood, store},
    tunnel::{Forward, all_terminated, ops, service, spec, wait_until},
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
    // The destination that is busy grows, the other does not.
    wait_until("a further session", || sessions()[0] > 1);
    echoes(&mut connect(forward.port(1)));
    assert_eq!(sessions()[1], 1);
    forward.end();
    reading.join().expect("the reader");
    assert!(all_terminated(&service));
}

#[test]
fn a_client_that_stops_reading_is_reset_for_the_sake_of_those_who_wait() {
    let (service, port) = (service(), store());
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1"]);
    let mut stuck = forward.connect();
    writeln!(stuck, "{}", 256 << 20).expect("it is sent");
    // As long as it is alone it may take its time. Everything on the way fills up, and then nothing moves any more.
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
