//! Connections to the service that are lost, and sessions that are gone.

use std::io::{Read as _, Write as _};

use ops_tests::service::Service;
use rustix::process::Signal;

use crate::{
    far::{echo, echoes},
    tunnel::{Forward, OPS, all_terminated, service, spec, wait_until},
};

#[test]
fn a_lost_connection_is_resumed_under_open_clients() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1"]);
    let mut stream = forward.connect();
    service.set_faults("cut-after=20,cuts=1");
    let mut back = [0; 100];
    for _ in 0..40 {
        stream.write_all(&[7; 100]).expect("it is sent");
        stream.read_exact(&mut back).expect("an echo");
    }
    let told = forward.end();
    assert!(told.contains("connection lost"), "{told}");
    assert!(told.contains("resumed after"), "{told}");
}

#[test]
fn a_session_that_is_gone_is_replaced_and_the_listener_stays() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1"]);
    let mut stream = forward.connect();
    stream.write_all(b"x").expect("it is sent");
    stream.read_exact(&mut [0; 1]).expect("an echo");
    service.set_faults("refuse-resume=gone,cut-after=1,cuts=1");
    let _ = stream.write_all(b"y");
    let error = stream
        .read_exact(&mut [0; 1])
        .expect_err("its session is gone");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    service.set_faults("");
    let mut again = forward.connect();
    again.write_all(b"z").expect("it is sent");
    again.read_exact(&mut [0; 1]).expect("an echo");
    // The new session may serve before it is told of.
    forward.told.wait_for("the session is gone");
    forward.told.wait_for("a new session is open");
    forward.end();
}

#[test]
fn a_restarted_service_gets_a_new_session_from_the_same_listener() {
    let service = Service::start_to_restart(OPS);
    let port = echo();
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1"]);
    let mut stream = forward.connect();
    stream.write_all(b"x").expect("it is sent");
    stream.read_exact(&mut [0; 1]).expect("an echo");
    let service = service.restart(|| {
        let error = stream
            .read_exact(&mut [0; 1])
            .expect_err("its session is gone");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
    let mut again = forward.connect();
    again.write_all(b"y").expect("it is sent");
    again.read_exact(&mut [0; 1]).expect("an echo");
    let told = forward.end();
    assert!(told.contains("the session is gone"), "{told}");
    assert!(told.contains("a new session is open"), "{told}");
    assert!(
        service
            .sessions()
            .iter()
            .all(|status| status == "Terminated")
    );
}

#[test]
fn a_session_that_the_service_closed_for_idleness_is_opened_again_when_needed() {
    let fleet = tempfile::NamedTempFile::new().expect("a file");
    let text = ops_sandbox::DEFAULT_FLEET.replacen(
        "region: eu-west-1\n",
        "region: eu-west-1\nsession: { idle_timeout: 1s }\n",
        1,
    );
    std::fs::write(fleet.path(), text).expect("a fleet");
    let service = Service::start_with(OPS, |options| {
        options.fleet = Some(fleet.path().to_owned());
    });
    let port = echo();
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1"]);
    forward.told.wait_for("the service closed the idle session");
    wait_until("its end", || all_terminated(&service));
    echoes(&mut forward.connect());
    let told = forward.end();
    assert!(!told.contains("is gone"), "{told}");
}

#[test]
fn whoever_waits_to_resume_is_told_why_and_goes_on_with_new_credentials() {
    let service = service();
    let folder = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(
        folder.join("partner.yaml"),
        "aws: { role_arn: \"arn:aws:iam::123456789012:role/partner\", external_id: example-external-id }\n",
    )
    .expect("a profile");
    let port = echo();
    let forward = Forward::start(&service, &["-p", "partner", "web-1", &spec(port)]);
    let mut stream = forward.connect();
    echoes(&mut stream);
    service.set_faults("expired,cut-after=0,cuts=1");
    forward.told.wait_for("not back yet, trying on: ");
    service.set_faults("");
    echoes(&mut stream);
    let told = forward.end();
    assert!(told.contains("expired"), "{told}");
    assert!(told.contains("resumed after"), "{told}");
}

#[test]
fn a_laptop_that_was_suspended_goes_on_where_it_was() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", &spec(port), "--sessions", "1"]);
    let mut stream = forward.connect();
    echoes(&mut stream);
    forward.signal(Signal::STOP);
    // The service loses patience with who does not answer.
    service.set_faults("bye-after=0,cuts=1");
    wait_until("the service has parted", || {
        service.sessions() == ["Disconnected"]
    });
    stream.write_all(b"pi").expect("it is taken");
    forward.signal(Signal::CONT);
    stream.write_all(b"ng").expect("it is sent");
    let mut back = [0; 4];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(&back, b"ping");
    let told = forward.end();
    assert!(told.contains("nothing was lost"), "{told}");
}
