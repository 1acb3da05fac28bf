//! What the protocol has in store for a client that takes it at its word; each by a fault of
//! `ops sandbox serve --fault`.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener},
    sync::mpsc,
};

use ops_sandbox::Pace;
use ops_tests::service::Service;

use crate::{
    far::{connect, download, echo, echoes, serve, store, upload},
    tunnel::{Forward, OPS, service, spec},
};

/// A session begins, whatever its first messages are like, and carries bytes both ways.
#[track_caller]
fn begins_with(faults: &str) {
    let service = Service::start(OPS, faults);
    let port = store();
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    upload(forward.port(0), 100_000);
    download(forward.port(0), 100_000);
    let told = forward.end();
    assert!(!told.contains("lost"), "{faults}: {told}");
}

#[test]
fn a_handshake_that_comes_twice_is_answered_once() {
    // A second answer makes the agent deaf for good.
    begins_with("duplicate=100%,strict");
}

#[test]
fn nothing_is_sent_before_the_handshake_is_over() {
    // The agent would acknowledge it and throw it away.
    begins_with("late-handshake=700ms,no-start,strict");
}

#[test]
fn a_handshake_of_another_json_library_is_understood() {
    begins_with("odd-json,strict");
}

#[test]
fn a_refused_stream_names_no_connection_and_costs_no_other() {
    let service = Service::start(OPS, "slow-dial=50ms");
    let (gone, is_gone) = mpsc::channel();
    // A server that stops listening after its first client, and goes on with that one.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        drop(listener);
        let _ = gone.send(());
        let mut writer = stream.try_clone().expect("a clone");
        let _ = std::io::copy(&mut stream, &mut writer);
    });
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1"]);
    let mut first = forward.connect();
    echoes(&mut first);
    is_gone.recv().expect("the server");
    let refused: Vec<_> = (0..3).map(|_| forward.connect()).collect();
    for mut stream in refused {
        let error = stream.read(&mut [0; 1]).expect_err("no orderly end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    echoes(&mut first);
    let told = forward.end();
    assert!(!told.contains("lost"), "{told}");
}

#[test]
fn an_agent_that_falls_silent_is_told_of_and_waited_for() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    let mut stream = forward.connect();
    echoes(&mut stream);
    service.set_faults("silent-after=1,silent-for=15s,pauses");
    stream.write_all(b"ping").expect("it is taken");
    forward.told.wait_for("the agent has not answered for 10 s");
    forward.told.wait_for("the agent answers again");
    let mut back = [0; 4];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(&back, b"ping");
    forward.end();
}

#[test]
fn a_resumption_that_fails_at_first_loses_nothing() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    let mut stream = forward.connect();
    echoes(&mut stream);
    service.set_faults("refuse-resume=2,cut-after=0,cuts=1");
    forward.told.wait_for("not back yet, trying on: ");
    forward.told.wait_for("nothing was lost");
    echoes(&mut stream);
    forward.end();
}

#[test]
fn a_session_that_timed_out_meanwhile_is_replaced() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1"]);
    let mut stream = forward.connect();
    echoes(&mut stream);
    service.set_faults("refuse-resume=timed-out,cut-after=0,cuts=1");
    forward.told.wait_for("the session is gone (");
    let error = stream.read(&mut [0; 1]).expect_err("no orderly end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    service.set_faults("");
    echoes(&mut forward.connect());
    forward.told.wait_for("a new session is open");
    forward.end();
}

#[test]
fn a_throttled_link_with_a_short_queue_is_neither_flooded_nor_given_up() {
    let service = Service::start_with(OPS, |options| options.pace = Pace::Real);
    let port = store();
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1"]);
    service.set_faults("seed=8,rate=1MB,queue=64KiB,delay=10ms,jitter=1ms");
    upload(forward.port(0), 2 << 20);
    download(forward.port(0), 512 << 10);
    let told = forward.end();
    assert!(!told.contains("lost"), "{told}");
}

#[test]
fn the_end_that_an_old_agent_does_not_tell_comes_after_a_silence() {
    let service = service();
    let port = serve(|mut stream| {
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(&[b'a'; 50_000]);
        // And closes, of which nobody hears.
    });
    // An agent of that age knows ports of its own only.
    let forward = Forward::start(&service, &["legacy-1", &format!("0:{port}")]);
    let mut stream = connect(forward.port(0));
    stream.write_all(b"?").expect("it is sent");
    stream.shutdown(Shutdown::Write).expect("a half-close");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer");
    assert_eq!(answer.len(), 50_000);
    forward.end();
}

#[test]
fn an_address_that_the_agent_forwards_nothing_to_is_not_tried_again_and_again() {
    let service = service();
    let forward = Forward::start(&service, &["web-1", "0:169.254.169.254:80"]);
    forward
        .told
        .wait_for("the session is gone (Forwarding to IP address 169.254.169.254 is forbidden)");
    let error = forward
        .connect()
        .read(&mut [0; 1])
        .expect_err("no orderly end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    forward.told.wait_for(
        "web-1 refuses 169.254.169.254:80 (Forwarding to IP address 169.254.169.254 is forbidden)",
    );
    let told = forward.end();
    assert!(!told.contains("a new session is open"), "{told}");
    assert_eq!(service.sessions().len(), 1);
}

#[test]
fn sessions_that_end_as_soon_as_they_begin_are_replaced_with_pauses() {
    let fleet = tempfile::NamedTempFile::new().expect("a file");
    let text = ops_sandbox::DEFAULT_FLEET.replacen(
        "region: eu-west-1\n",
        "region: eu-west-1\nsession: { max_duration: 300ms }\n",
        1,
    );
    std::fs::write(fleet.path(), text).expect("a fleet");
    let service = Service::start_with(OPS, |options| {
        options.fleet = Some(fleet.path().to_owned());
    });
    let forward = Forward::start(&service, &["web-1", &spec(echo()), "-v"]);
    // The first at once, as after any loss.
    forward.told.wait_for("a new session is open");
    forward.told.wait_for(" s, the last 2 ended soon");
    forward.told.wait_for(" s, the last 3 ended soon");
    forward.end();
}
