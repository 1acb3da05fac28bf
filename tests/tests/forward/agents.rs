//! Agents of other versions.

use std::io::{Read as _, Write as _};

use ops_tests::service::Service;

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
