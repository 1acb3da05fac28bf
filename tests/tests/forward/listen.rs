//! What is listened on, and destinations that refuse.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use crate::tunnel::{Forward, ops, service, text};

#[test]
fn a_refused_destination_resets_the_client_and_says_which() {
    let service = service();
    let forward = Forward::start(&service, &["web-1", "0:no-such-host.example:81"]);
    let error = forward
        .connect()
        .read(&mut [0; 1])
        .expect_err("no orderly end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let told = forward.end();
    assert!(
        told.contains("warning: web-1 could not connect to no-such-host.example:81: "),
        "{told}"
    );
}

#[test]
fn a_port_that_is_taken_names_its_holder_and_a_way_out() {
    let service = service();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let output = ops(
        &service,
        &["forward", "web-1", &format!("{port}:db.internal:3306")],
    );
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains(&format!("(process {})", std::process::id())),
        "{told}"
    );
    assert!(
        told.contains("ops forward web-1 0:db.internal:3306"),
        "{told}"
    );
}

#[test]
fn a_bind_that_others_can_reach_is_warned_of_in_the_background_too() {
    let service = service();
    let started = ops(
        &service,
        &["forward", "-d", "-q", "web-1", "*:0:localhost:80"],
    );
    let told = text(&started.stderr);
    assert_eq!(started.status.code(), Some(0), "{told}");
    assert!(
        told.contains("warning: *:0 is open to everybody who can reach this machine"),
        "{told}"
    );
    let stopped = ops(&service, &["forward", "--stop", "all"]);
    assert_eq!(stopped.status.code(), Some(0));
}

#[test]
fn two_forwards_cannot_have_one_local_port() {
    let service = service();
    let output = ops(
        &service,
        &["forward", "web-1", "18080:80", "18080:db.internal:81"],
    );
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("two forwards listen on `18080`: that to `80` and that to `db.internal:81`"),
        "{told}"
    );
}

#[test]
fn a_unix_socket_is_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let service = service();
    let socket = service.home().join("echo.sock");
    let forward = Forward::start(&service, &["web-1", &format!("{}:7", socket.display())]);
    let mode = std::fs::metadata(&socket)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
    stream.write_all(b"ping").expect("it is sent");
    let mut back = [0; 4];
    stream.read_exact(&mut back).expect("an echo");
    drop(stream);
    forward.end();
}
