//! `ops forward` with real clients and servers.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{Context as Digest, SHA256};
use ops_sandbox::Pace;
use ops_tests::service::{PATIENCE, Service};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");

fn service() -> Service {
    Service::start(OPS, "")
}

/// `ops forward` in the foreground, its listeners ready.
struct Forward {
    child: Child,
    rows: Vec<Value>,
}

impl Forward {
    fn start(service: &Service, args: &[&str]) -> Self {
        let mut child = service
            .ops(&[&["forward", "-o", "json", "--grace", "200ms"], args].concat())
            .spawn()
            .expect("ops starts");
        // One document on stdout, whole once the listeners accept.
        let mut text = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("its stdout"));
        let rows = loop {
            let len = stdout.read_line(&mut text).expect("its stdout");
            if let Ok(document) = serde_json::from_str::<Value>(&text) {
                break document["forwards"].as_array().expect("a list").clone();
            }
            if len == 0 {
                let output = child.wait_with_output().expect("its end");
                panic!("{}", String::from_utf8_lossy(&output.stderr));
            }
        };
        Self { child, rows }
    }

    fn port(&self, index: usize) -> u16 {
        let port = self.rows[index]["localPort"].as_u64().expect("a port");
        u16::try_from(port).expect("a port")
    }

    fn connect(&self) -> TcpStream {
        connect(self.port(0))
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill_process(Pid::from_raw(id).expect("a process id"), signal).expect("it is running");
    }

    /// Ctrl-C, and what it said on stderr.
    fn end(self) -> String {
        self.signal(Signal::INT);
        let output = self.child.wait_with_output().expect("its end");
        assert_eq!(output.status.code(), Some(130));
        String::from_utf8(output.stderr).expect("UTF-8")
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout for reads");
    stream
}

/// A server on a port of its own; every connection gets a thread.
fn serve(handle: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = handle.clone();
            thread::spawn(move || handle(stream));
        }
    });
    port
}

fn echo() -> u16 {
    serve(|mut stream| {
        let mut writer = stream.try_clone().expect("a clone");
        let _ = std::io::copy(&mut stream, &mut writer);
    })
}

/// Bytes that differ from their neighbours, and whose place matters.
fn pattern(at: usize, len: usize) -> Vec<u8> {
    (at..at + len)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 16) as u8)
        .collect()
}

const CHUNK: usize = 64 << 10;

/// `N\n` is answered with N bytes; `-N\n` and N bytes with their SHA-256.
fn store() -> u16 {
    serve(|stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        let mut writer = stream;
        let mut line = String::new();
        let _ = reader.read_line(&mut line);
        let Ok(wanted) = line.trim().parse::<i64>() else {
            return;
        };
        let total = usize::try_from(wanted.abs()).expect("a size");
        if wanted > 0 {
            for at in (0..total).step_by(CHUNK) {
                if writer
                    .write_all(&pattern(at, CHUNK.min(total - at)))
                    .is_err()
                {
                    return;
                }
            }
        } else {
            let mut digest = Digest::new(&SHA256);
            let mut buffer = vec![0; CHUNK];
            let mut left = total;
            while left > 0 {
                let Ok(len @ 1..) = reader.read(&mut buffer) else {
                    return;
                };
                digest.update(&buffer[..len]);
                left -= len;
            }
            let _ = writer.write_all(digest.finish().as_ref());
        }
    })
}

fn sha256(total: usize) -> Vec<u8> {
    let mut digest = Digest::new(&SHA256);
    for at in (0..total).step_by(CHUNK) {
        digest.update(&pattern(at, CHUNK.min(total - at)));
    }
    digest.finish().as_ref().to_vec()
}

#[track_caller]
fn download(port: u16, total: usize) {
    let mut stream = connect(port);
    writeln!(stream, "{total}").expect("it is sent");
    let mut digest = Digest::new(&SHA256);
    let (mut buffer, mut got) = (vec![0; CHUNK], 0);
    loop {
        let len = stream.read(&mut buffer).expect("bytes");
        if len == 0 {
            break;
        }
        got += len;
        digest.update(&buffer[..len]);
    }
    assert_eq!(got, total);
    assert_eq!(digest.finish().as_ref(), sha256(total));
}

#[track_caller]
fn upload(port: u16, total: usize) {
    let mut stream = connect(port);
    writeln!(stream, "-{total}").expect("it is sent");
    for at in (0..total).step_by(CHUNK) {
        stream
            .write_all(&pattern(at, CHUNK.min(total - at)))
            .expect("bytes are taken");
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the digest");
    assert_eq!(answer, sha256(total));
}

fn spec(port: u16) -> String {
    format!("0:127.0.0.1:{port}")
}

#[test]
fn fifty_clients_keep_their_http_connections() {
    let port = serve(|stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        let mut writer = stream;
        let mut line = String::new();
        let mut path = String::new();
        while reader.read_line(&mut line).is_ok_and(|len| len > 0) {
            if let Some(rest) = line.strip_prefix("GET ") {
                path = rest.split(' ').next().unwrap_or_default().to_owned();
            } else if line == "\r\n" {
                let body = path.repeat(300);
                let _ = write!(
                    writer,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
            line.clear();
        }
    });
    let service = service();
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    thread::scope(|scope| {
        for client in 0..50 {
            let stream = forward.connect();
            scope.spawn(move || {
                let mut writer = stream.try_clone().expect("a clone");
                let mut reader = BufReader::new(stream);
                for request in 0..10 {
                    let path = format!("/{client}/{request}");
                    write!(writer, "GET {path} HTTP/1.1\r\nHost: web\r\n\r\n").expect("it is sent");
                    let mut line = String::new();
                    while line != "\r\n" {
                        line.clear();
                        reader.read_line(&mut line).expect("a head");
                    }
                    let mut body = vec![0; path.len() * 300];
                    reader.read_exact(&mut body).expect("a body");
                    assert_eq!(body, path.repeat(300).into_bytes());
                }
            });
        }
    });
    forward.end();
}

#[test]
fn a_large_download_and_upload_arrive_whole() {
    let (service, port) = (service(), store());
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    upload(forward.port(0), 256 << 20);
    download(forward.port(0), 256 << 20);
    forward.end();
    assert!(
        service
            .sessions()
            .iter()
            .all(|status| status == "Terminated")
    );
}

/// 4 MB each way with `faults` on.
#[track_caller]
fn transfer_with(faults: &str) {
    // At the real agent's pace few messages are under way, of which it repairs ten a second after a cut.
    let service = Service::start_with(OPS, |options| options.pace = Pace::Real);
    let port = store();
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    service.set_faults(faults);
    upload(forward.port(0), 4 << 20);
    download(forward.port(0), 4 << 20);
    let told = forward.end();
    assert!(!told.contains("is gone"), "{faults}: {told}");
}

#[test]
fn four_megabytes_arrive_whole_with_duplicates() {
    transfer_with("seed=1,duplicate=3%");
}

#[test]
fn four_megabytes_arrive_whole_out_of_order() {
    transfer_with("seed=2,reorder=3%");
}

#[test]
fn four_megabytes_arrive_whole_over_cut_connections() {
    transfer_with("seed=3,cut-after=1500,cuts=1");
}

#[test]
fn four_megabytes_arrive_whole_over_the_hourly_close() {
    transfer_with("seed=4,bye-after=1500,cuts=1");
}

#[test]
fn four_megabytes_arrive_whole_among_malformed_messages() {
    transfer_with("seed=6,garbage=1%,drop-acks=0.1%");
}

#[test]
fn lost_messages_are_repaired_both_ways() {
    // The agent repairs its side by at most ten messages a second.
    let (service, port) = (service(), store());
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    service.set_faults("seed=7,drop=1%");
    upload(forward.port(0), 4 << 20);
    download(forward.port(0), 256 << 10);
    forward.end();
}

#[test]
fn a_hundred_connections_at_once() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    let streams: Vec<_> = (0..100).map(|_| forward.connect()).collect();
    thread::scope(|scope| {
        for (number, mut stream) in streams.into_iter().enumerate() {
            scope.spawn(move || {
                let sent = pattern(number, 20_000);
                let mut writer = stream.try_clone().expect("a clone");
                let bytes = sent.clone();
                let writing = thread::spawn(move || writer.write_all(&bytes).expect("it is sent"));
                let mut back = vec![0; sent.len()];
                stream.read_exact(&mut back).expect("an echo");
                writing.join().expect("the writer");
                assert!(back == sent, "connection {number}");
            });
        }
    });
    forward.end();
}

#[test]
fn a_client_that_stops_sending_gets_the_whole_answer() {
    let (service, port) = (service(), store());
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    let mut stream = forward.connect();
    stream.write_all(b"300000\n").expect("it is sent");
    stream.shutdown(Shutdown::Write).expect("a half-close");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer");
    assert!(answer == pattern(0, 300_000));
    forward.end();
}

#[test]
fn a_client_that_goes_away_is_gone_for_the_destination_too() {
    let service = service();
    let (gone, seen) = std::sync::mpsc::channel();
    let port = serve(move |mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
        let _ = gone.send(());
    });
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    let mut stream = forward.connect();
    stream.write_all(b"x").expect("it is sent");
    drop(stream);
    seen.recv_timeout(PATIENCE).expect("the close is passed on");
    forward.end();
}

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
    let output = ops(&service, &["forward", "web-1", &format!("{port}:db:3306")]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains(&format!("(process {})", std::process::id())),
        "{told}"
    );
    assert!(told.contains("ops forward web-1 0:db:3306"), "{told}");
}

fn ops(service: &Service, args: &[&str]) -> Output {
    service.ops(args).output().expect("ops runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_command_runs_while_the_tunnel_is_up_and_gives_its_exit_code() {
    let service = service();
    let script = r#"echo "$1 $OPS_FORWARD_0_ADDR $OPS_FORWARD_0_HOST:$OPS_FORWARD_0_PORT"; exit 7"#;
    let output = ops(
        &service,
        &[
            "forward", "web-1", "0:80", "--", "sh", "-c", script, "sh", "{0.addr}",
        ],
    );
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words.len(), 3, "{said}");
    assert!(words[0].starts_with("127.0.0.1:") && words.iter().all(|word| *word == words[0]));
    let failed = ops(&service, &["forward", "nobody", "0:80", "--", "true"]);
    assert_eq!(failed.status.code(), Some(255));
}

#[test]
fn named_forwards_and_groups_come_from_the_profile() {
    let service = service();
    let folder = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(
        folder.join("team.yaml"),
        "forwards:\n  reporting-db: { via: bastion, listen: 0, to: \"db-reporting:3306\", group: dev }\n  site: { via: web-1, listen: 0, to: 80, group: dev }\n  other: { via: web-2, to: 80 }\n",
    )
    .expect("a profile");
    let forward = Forward::start(&service, &["-p", "team", "reporting-db"]);
    let mut greeting = [0; 8];
    forward
        .connect()
        .read_exact(&mut greeting)
        .expect("the server speaks first");
    assert_eq!(greeting[4], 10, "the protocol version of MySQL");
    forward.end();
    let group = Forward::start(&service, &["-p", "team", "--group", "dev"]);
    let names: Vec<_> = group.rows.iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["reporting-db", "site"]);
    group.end();
    let list = ops(&service, &["-p", "team", "forward", "--list"]);
    assert!(text(&list.stdout).contains("reporting-db  bastion"));
    let wrong = ops(&service, &["-p", "team", "forward", "reporting-bd"]);
    assert!(text(&wrong.stderr).contains("did you mean: ops forward reporting-db"));
}

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

fn left_over(service: &Service) -> Vec<String> {
    let folder = service.home().join(".local/state/ops/run/forward");
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
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
fn a_lost_connection_is_resumed_under_open_clients() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
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
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
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
    let told = forward.end();
    assert!(told.contains("the session is gone"), "{told}");
    assert!(told.contains("a new session is open"), "{told}");
}

#[test]
fn a_restarted_service_gets_a_new_session_from_the_same_listener() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = free.local_addr().expect("an address").port();
    drop(free);
    let service = Service::start_with(OPS, |options| options.port = at);
    let port = echo();
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
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

fn is_there(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

#[test]
fn curl_reaches_names_of_the_far_side_through_the_socks_proxy() {
    if !is_there("curl") {
        return;
    }
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
    if !is_there("redis-server") || !is_there("redis-cli") {
        return;
    }
    let service = service();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let mut server = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .current_dir(service.home())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server starts");
    let since = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(since.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(10));
    }
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
