//! How it ends.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex, mpsc},
};

use ops_tests::service::PATIENCE;
use rustix::process::Signal;

use crate::{
    far::{echo, echoes, pattern, serve},
    tunnel::{Forward, all_terminated, left_over, service, spec, wait_until},
};

#[test]
fn open_connections_have_a_moment_to_end() {
    let service = service();
    let (answer, may_answer) = mpsc::channel::<()>();
    let may_answer = Arc::new(Mutex::new(may_answer));
    let (asked, is_asked) = mpsc::channel();
    let port = serve(move |mut stream| {
        let _ = stream.read_exact(&mut [0; 1]);
        let _ = asked.send(());
        let _ = may_answer.lock().expect("a lock").recv();
        let _ = stream.write_all(&pattern(0, 100_000));
    });
    let forward = Forward::start_with_grace(&service, "1h", &["web-1", &spec(port)]);
    let mut stream = forward.connect();
    stream.write_all(b"?").expect("it is sent");
    is_asked.recv_timeout(PATIENCE).expect("the question");
    forward.signal(Signal::INT);
    forward
        .told
        .wait_for("no new connections; 1 open connection has");
    wait_until("the listener is closed", || {
        TcpStream::connect(("127.0.0.1", forward.port(0))).is_err()
    });
    answer.send(()).expect("the server waits");
    let mut whole = Vec::new();
    stream.read_to_end(&mut whole).expect("the answer");
    assert!(whole == pattern(0, 100_000));
    drop(stream);
    forward.ended();
    assert!(all_terminated(&service));
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let (service, port) = (service(), echo());
    let forward = Forward::start_with_grace(&service, "1h", &["web-1", &spec(port)]);
    let mut stream = forward.connect();
    echoes(&mut stream);
    forward.signal(Signal::INT);
    forward.told.wait_for("no new connections");
    forward.end();
}

#[test]
fn whoever_is_asked_to_end_or_hung_up_on_leaves_nothing() {
    let (service, port) = (service(), echo());
    for signal in [Signal::TERM, Signal::HUP] {
        let mut forward = Forward::start(&service, &["web-1", &spec(port)]);
        echoes(&mut forward.connect());
        assert_eq!(left_over(&service).len(), 1);
        forward.signal(signal);
        let status = forward.child.wait().expect("its end");
        assert_eq!(status.code(), Some(143), "{signal:?}");
        assert_eq!(left_over(&service), Vec::<String>::new());
        assert!(all_terminated(&service));
    }
}
