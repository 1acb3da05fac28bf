//! Clients that nobody here wrote.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use ops_test_needs::needs;
use ops_tests::{ports::on_a_free_port, service::PATIENCE};

use crate::{
    far::{connect, echo, echoes},
    tunnel::{Forward, all_terminated, service, spec, text, wait_until},
};

#[test]
fn curl_reaches_names_of_the_far_side_through_the_socks_proxy() {
    needs!("curl");
    let service = service();
    let forward = Forward::start(&service, &["bastion", "-D", "0"]);
    let proxy = format!("127.0.0.1:{}", forward.port(0));
    let curl = |url: &str| {
        Command::new("curl")
            .args(["-sS", "--noproxy", "", "--socks5-hostname", &proxy, url])
            .output()
            .expect("curl runs")
    };
    let answer = curl("http://intranet.sandbox.internal/");
    assert!(
        text(&answer.stdout).contains("hello from"),
        "{}",
        text(&answer.stderr)
    );
    let refused = curl("http://nowhere.example/");
    // A refusal in the words of the protocol, no connection that breaks later.
    assert_eq!(refused.status.code(), Some(97), "{}", text(&refused.stderr));
    forward.end();
}

#[test]
fn a_database_client_works_against_a_real_server() {
    needs!("redis-server", "redis-cli");
    let service = service();
    let (port, mut server) = on_a_free_port(|port| {
        let mut server = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .current_dir(service.home())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server starts");
        let stdout = server.stdout.take().expect("its stdout");
        // Read to its end in a thread, so that what it says later fills no pipe.
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.contains("Ready to accept connections") {
                    let _ = ready.send(());
                }
            }
        });
        // Where the port is taken, redis-server ends, and its stdout with it.
        match is_ready.recv_timeout(PATIENCE) {
            Ok(()) => Some(server),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                server.wait().expect("its end");
                None
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("redis-server is not ready"),
        }
    });
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    let redis = |args: &[&str]| {
        let output = Command::new("redis-cli")
            .args(["-p", &forward.port(0).to_string()])
            .args(args)
            .output()
            .expect("redis-cli runs");
        text(&output.stdout).trim().to_owned()
    };
    assert_eq!(redis(&["PING"]), "PONG");
    assert_eq!(redis(&["SET", "key", &"v".repeat(100_000)]), "OK");
    assert_eq!(redis(&["GET", "key"]).len(), 100_000);
    assert_eq!(
        redis(&["-r", "200", "INCR", "n"]).lines().last(),
        Some("200")
    );
    forward.end();
    let _ = server.kill();
    let _ = server.wait();
}

/// A client that asks a SOCKS proxy for a port of this machine, which the sandbox reaches as every
/// loopback destination.
fn connect_through_socks(proxy: u16, port: u16) -> TcpStream {
    let (stream, reply) = ask_socks(proxy, port);
    assert_eq!(reply, 0);
    stream
}

/// The same, with the code of the proxy's reply.
fn ask_socks(proxy: u16, port: u16) -> (TcpStream, u8) {
    let mut stream = connect(proxy);
    stream.write_all(&[5, 1, 0]).expect("it is sent");
    let mut method = [0; 2];
    stream.read_exact(&mut method).expect("a method");
    assert_eq!(method, [5, 0]);
    let [high, low] = port.to_be_bytes();
    stream
        .write_all(&[5, 1, 0, 1, 127, 0, 0, 1, high, low])
        .expect("it is sent");
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).expect("a reply");
    assert_eq!(reply[0], 5);
    (stream, reply[1])
}

#[test]
fn a_known_socks_destination_is_answered_for_without_a_word_from_it() {
    let service = service();
    let forward = Forward::start(&service, &["web-1", "-D", "0", "--sessions", "1"]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let first = connect_through_socks(forward.port(0), port);
    let (accepted, _) = listener.accept().expect("a connection");
    drop((listener, accepted));
    // Whoever waited for the far side would hear of the refusal before the reply.
    let mut second = connect_through_socks(forward.port(0), port);
    let error = second.read(&mut [0; 1]).expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    // From now on it is waited for.
    let (_third, reply) = ask_socks(forward.port(0), port);
    assert_eq!(reply, 5, "connection refused");
    assert_eq!(service.sessions().len(), 1);
    drop(first);
    forward.end();
}

#[test]
fn a_socks_destination_without_connections_is_left_and_found_again() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", "-D", "0", "--idle", "300ms", "-v"]);
    assert_eq!(service.sessions().len(), 0, "none before it is needed");
    let mut stream = connect_through_socks(forward.port(0), port);
    echoes(&mut stream);
    // A connection that says nothing is still one: another destination comes and is left meanwhile.
    let other = echo();
    echoes(&mut connect_through_socks(forward.port(0), other));
    forward
        .told
        .wait_for(&format!("port {other} of web-1: closed, it was idle"));
    echoes(&mut stream);
    drop(stream);
    forward
        .told
        .wait_for(&format!("port {port} of web-1: closed, it was idle"));
    wait_until("its session ends", || all_terminated(&service));
    echoes(&mut connect_through_socks(forward.port(0), port));
    assert_eq!(service.sessions().len(), 3);
    forward.end();
}

#[test]
fn socks_destinations_are_bounded_and_an_unused_one_makes_room() {
    const MOST: usize = 50;
    let service = service();
    let forward = Forward::start(&service, &["web-1", "-D", "0", "--idle", "1h"]);
    let proxy = forward.port(0);
    let listeners: Vec<TcpListener> = (0..=MOST)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let ports: Vec<u16> = listeners
        .iter()
        .map(|listener| listener.local_addr().expect("an address").port())
        .collect();
    let clients: Vec<_> = ports[..MOST]
        .iter()
        .map(|&port| std::thread::spawn(move || connect_through_socks(proxy, port)))
        .collect();
    let mut clients: Vec<TcpStream> = clients
        .into_iter()
        .map(|client| client.join().expect("a connection"))
        .collect();
    let (_refused, reply) = ask_socks(proxy, ports[MOST]);
    assert_eq!(reply, 1, "one more than there may be");
    forward
        .told
        .wait_for("50 destinations have connections, and there may be no more at once");
    drop(clients.pop());
    wait_until("the destination without a connection makes room", || {
        ask_socks(proxy, ports[MOST]).1 == 0
    });
    forward.end();
}

/// A page may have a browser ask for any number of names; StartSession has a quota of three calls a
/// second for everybody.
#[test]
fn a_shell_does_not_wait_behind_the_many_destinations_of_a_socks_proxy() {
    const DESTINATIONS: usize = 20;
    let service = service();
    let forward = Forward::start(&service, &["web-1", "-D", "0"]);
    service.set_faults("tps=StartSession/3");
    let proxy = forward.port(0);
    let listeners: Vec<TcpListener> = (0..DESTINATIONS)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    for listener in &listeners {
        let port = listener.local_addr().expect("an address").port();
        // Each waits for its session, and most of them longer than this test.
        thread::spawn(move || {
            let _ = std::panic::catch_unwind(|| ask_socks(proxy, port));
        });
    }
    // A burst, and then a third of a second each: by now all of them have asked.
    service.wait_for_calls("StartSession", 4);
    let output = service
        .ops(&["exec", "-n", "web-1", "--", "echo", "mine"])
        .output()
        .expect("ops runs");
    assert_eq!(text(&output.stdout), "mine\n", "{}", text(&output.stderr));
    let started = service.sessions().len();
    assert!(started < DESTINATIONS / 2, "{started} were started first");
    forward.end();
}

/// `ops forward` under a limit of descriptors, set by `ulimit` with these options.
#[cfg(target_os = "linux")]
fn limited(service: &ops_tests::service::Service, options: &str, args: &[&str]) -> Forward {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit {options} && exec \"$0\" \"$@\"")])
        .arg(service.program())
        .args(["forward", "-o", "json", "--grace", "200ms"])
        .args(args)
        .env_clear()
        .envs(service.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Forward::started(command)
}

#[cfg(target_os = "linux")]
#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let service = service();
    let forward = limited(&service, "-Sn 64", &["web-1", "0:80"]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", forward.child.id()))
        .expect("its limits");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("a limit");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
    forward.end();
}

#[cfg(target_os = "linux")]
#[test]
fn a_tunnel_at_its_limit_is_free_as_soon_as_clients_have_gone() {
    let (service, port) = (service(), echo());
    let forward = limited(&service, "-n 96", &["web-1", &spec(port)]);
    let mut first = forward.connect();
    echoes(&mut first);
    let clients: Vec<TcpStream> = (0..160).map(|_| forward.connect()).collect();
    forward.told.wait_for("as many connections are open");
    // The tunnel can still be asked, and those that are in go on.
    let status = Command::new(service.program())
        .args(["forward", "--status", "-o", "name"])
        .env_clear()
        .envs(service.environment())
        .output()
        .expect("ops runs");
    assert!(!status.stdout.is_empty(), "{}", text(&status.stderr));
    echoes(&mut first);
    drop(clients);
    let mut next = forward.connect();
    echoes(&mut next);
    wait_until("no connection stays behind", || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", forward.child.id()));
        fds.expect("its descriptors").count() < 40
    });
    forward.end();
}
