//! Both families of addresses, and several forwards of which not all can start.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv6Addr, TcpListener, TcpStream},
};

use ops_tests::Lab;

use crate::tunnel::{Forward, ops, service, text};

/// What the web server behind a tunnel answers.
fn answer(mut stream: TcpStream) -> String {
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
    )
    .expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn localhost_is_both_families_as_for_ssh() {
    let service = service();
    let has_six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    for spec in ["0:80", "localhost:0:localhost:80", "*:0:localhost:80"] {
        let forward = Forward::start(&service, &["web-1", spec]);
        let port = forward.port(0);
        let four = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
        assert!(answer(four).contains("hello from web-1"), "{spec}");
        if has_six {
            let six = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("a listener");
            assert!(answer(six).contains("hello from web-1"), "{spec}");
        }
        forward.end();
    }
    // An address is that address alone.
    let forward = Forward::start(&service, &["web-1", "127.0.0.1:0:localhost:80"]);
    assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, forward.port(0))).is_err());
    forward.end();
}

#[test]
fn one_that_cannot_start_is_named_and_the_others_start() {
    let service = service();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let folder = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(
        folder.join("t.yaml"),
        format!(
            "forwards:\n  site: {{ via: web-1, listen: 0, to: 80, group: g }}\n  busy: {{ via: web-1, listen: {port}, to: 80, group: g }}\n  gone: {{ via: nosuch, listen: 0, to: 80, group: g }}\n"
        ),
    )
    .expect("a profile");
    let forward = Forward::start(&service, &["-p", "t", "--group", "g"]);
    assert_eq!(forward.rows.len(), 1, "{:?}", forward.rows);
    assert_eq!(forward.rows[0]["name"], "site");
    forward.told.wait_for("busy does not start");
    forward.told.wait_for("gone does not start");
    let told = forward.end();
    assert!(told.contains("the port is held by"), "{told}");

    let refused = ops(
        &service,
        &["-p", "t", "forward", "--group", "g", "--all-or-nothing"],
    );
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));

    let background = ops(&service, &["-p", "t", "forward", "-d", "--group", "g"]);
    let told = text(&background.stderr);
    assert_eq!(background.status.code(), Some(0), "{told}");
    assert!(told.contains("warning: busy does not start"), "{told}");
    assert!(told.contains("warning: gone does not start"), "{told}");
    assert_eq!(
        ops(&service, &["forward", "--stop", "all"]).status.code(),
        Some(0)
    );
}

#[test]
fn a_tunnel_in_the_background_has_an_embedded_sandbox_of_its_own() {
    let lab = Lab::new();
    let done = lab
        .ops(["--sandbox", "forward", "-d", "-o", "json", "web-1", "0:80"])
        .output()
        .success();
    let port = done.json()["forwards"][0]["localPort"]
        .as_u64()
        .expect("a port");
    let port = u16::try_from(port).expect("a port");
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    assert!(answer(stream).contains("hello from web-1"));
    let stopped = lab.ops(["--sandbox", "forward", "--stop", "all"]).output();
    assert_eq!(stopped.status, 0, "{stopped}");
}

#[test]
fn where_no_socket_fits_the_way_to_stop_is_one_that_works() {
    let lab = Lab::new();
    let long = lab.folder(&format!("run/{}", "x".repeat(110)));
    let done = lab
        .ops(["--sandbox", "forward", "-d", "web-1", "0:80"])
        .env("XDG_RUNTIME_DIR", &long)
        .output()
        .success();
    assert!(!done.stderr.contains("ops forward --stop"), "{done}");
    let (_, rest) = done.stderr.split_once("stop it: kill ").expect("a command");
    let id: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let id = rustix::process::Pid::from_raw(id.parse().expect("a process id")).expect("one");
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
}
