//! Forwards that outlive the command that started them.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Instant,
};

use ops_tests::service::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    far::{connect, echo, echoes},
    tunnel::{Forward, left_over, ops, service, spec, text, wait_until},
};

#[test]
fn forwards_in_the_background_are_listed_and_stopped() {
    let service = service();
    let started = ops(&service, &["forward", "-d", "web-1", "0:80", "-o", "json"]);
    assert_eq!(started.status.code(), Some(0), "{}", text(&started.stderr));
    let ready: Value = serde_json::from_slice(&started.stdout).expect("JSON");
    let row = &ready["forwards"][0];
    let port = u16::try_from(row["localPort"].as_u64().expect("a port")).expect("a port");
    let mut stream = connect(port);
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
    )
    .expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("hello from web-1"), "{answer}");

    let status = ops(&service, &["forward", "--status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["forwards"][0]["local"], row["local"]);
    assert_eq!(status["forwards"][0]["totalConnections"], 1);
    assert_eq!(status["forwards"][0]["state"], "connected");

    assert!(status["forwards"][0]["open"].is_null());
    let since = status["forwards"][0]["since"].as_str().expect("a time");
    since.parse::<jiff::Timestamp>().expect("RFC 3339");

    let taken = ops(&service, &["forward", "web-1", &format!("{port}:80")]);
    assert!(
        text(&taken.stderr).contains(&format!("stop it: ops forward --stop {port}")),
        "{}",
        text(&taken.stderr)
    );

    let missing = ops(&service, &["forward", "--stop", "nothing"]);
    assert_eq!(missing.status.code(), Some(3));
    let stopped = ops(&service, &["forward", "--stop", &port.to_string()]);
    assert_eq!(stopped.status.code(), Some(0), "{}", text(&stopped.stderr));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(
        service
            .sessions()
            .iter()
            .all(|status| status == "Terminated")
    );
    assert_eq!(left_over(&service), Vec::<String>::new());
}

#[test]
fn what_a_crash_leaves_is_cleared_away() {
    let service = service();
    let socket = service.home().join("db.sock");
    let spec = format!("{}:80", socket.display());
    let started = ops(&service, &["forward", "-d", "web-1", &spec, "-o", "json"]);
    let ready: Value = serde_json::from_slice(&started.stdout).expect("JSON");
    let id = ready["forwards"][0]["process"].as_i64().expect("an id");
    let pid = Pid::from_raw(i32::try_from(id).expect("an id")).expect("an id");
    kill_process(pid, Signal::KILL).expect("it is running");
    let since = Instant::now();
    while std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        assert!(since.elapsed() < PATIENCE);
        thread::yield_now();
    }
    assert!(!left_over(&service).is_empty());
    let status = ops(&service, &["forward", "--status", "-o", "name"]);
    assert_eq!(text(&status.stdout), "");
    assert_eq!(left_over(&service), Vec::<String>::new());
    // The path of its listener can be used again.
    let again = Forward::start(&service, &["web-1", &spec]);
    again.end();
    assert!(!socket.exists());
}

#[test]
fn a_failed_start_in_the_background_is_told_at_once() {
    let service = service();
    let output = ops(&service, &["forward", "-d", "web-4", "0:80"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(text(&output.stderr).contains("`web-4` is stopped"));
    assert_eq!(left_over(&service), Vec::<String>::new());
}

#[test]
fn a_stop_waits_for_open_connections_and_for_no_new_ones() {
    let (service, port) = (service(), echo());
    let started = ops(
        &service,
        &[
            "forward",
            "-d",
            "web-1",
            &spec(port),
            "--grace",
            "1h",
            "-o",
            "json",
        ],
    );
    let ready: Value = serde_json::from_slice(&started.stdout).expect("JSON");
    let local = u16::try_from(ready["forwards"][0]["localPort"].as_u64().expect("a port"));
    let local = local.expect("a port");
    let mut stream = connect(local);
    echoes(&mut stream);
    let stop = service
        .ops(&["forward", "--stop", "all"])
        .spawn()
        .expect("ops runs");
    wait_until("the listener is closed", || {
        TcpStream::connect(("127.0.0.1", local)).is_err()
    });
    echoes(&mut stream);
    drop(stream);
    let stopped = stop.wait_with_output().expect("its end");
    assert!(text(&stopped.stderr).contains("stopped"), "{stopped:?}");
    assert_eq!(stopped.status.code(), Some(0));
    assert_eq!(left_over(&service), Vec::<String>::new());
}

#[test]
fn another_users_runtime_folder_is_not_written_into() {
    ops_test_needs::needs_root!();
    let service = service();
    // What `sudo -E` leaves in the environment.
    let theirs = service.home().join("theirs");
    std::fs::create_dir(&theirs).expect("a folder");
    std::os::unix::fs::chown(&theirs, Some(65_534), None).expect("an owner");
    let ops = |args: &[&str]| {
        service
            .ops(args)
            .env("XDG_RUNTIME_DIR", &theirs)
            .output()
            .expect("ops runs")
    };
    let started = ops(&["forward", "-d", "web-1", "0:80"]);
    assert_eq!(started.status.code(), Some(0), "{}", text(&started.stderr));
    let stopped = ops(&["forward", "--stop", "all"]);
    assert_eq!(stopped.status.code(), Some(0), "{}", text(&stopped.stderr));
    let written = std::fs::read_dir(&theirs).expect("a folder").count();
    assert_eq!(written, 0);
}

#[test]
fn sockets_and_logs_are_private_under_any_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let service = service();
    let socket = service.home().join("db.sock");
    let script = format!(
        "umask 0; exec \"$0\" forward -d web-1 {}:80",
        socket.display()
    );
    let mut command = service.ops(&[]);
    let program = command.get_program().to_owned();
    let environment = service.environment();
    command = std::process::Command::new("sh");
    command
        .args(["-c", &script])
        .arg(program)
        .env_clear()
        .envs(environment);
    let started = command.output().expect("sh runs");
    assert_eq!(started.status.code(), Some(0), "{}", text(&started.stderr));
    let mode = |path: &std::path::Path| {
        let data = std::fs::metadata(path).expect("it is there");
        data.permissions().mode() & 0o777
    };
    assert_eq!(mode(&socket), 0o600);
    let folder = service.home().join(".local/state/ops/run/forward");
    assert_eq!(mode(&folder), 0o700);
    for name in left_over(&service) {
        assert_eq!(mode(&folder.join(&name)), 0o600, "{name}");
    }
    ops(&service, &["forward", "--stop", "all"]);
}
