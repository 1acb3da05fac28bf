//! `ops forward` with real clients and servers.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{Context as Digest, SHA256};
use ops_sandbox::Pace;
use ops_tests::{
    service::{PATIENCE, Service},
    terminal::Terminal,
};
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
    told: Told,
}

/// What a process says on stderr, while it says it.
struct Told {
    text: Arc<Mutex<String>>,
    reader: thread::JoinHandle<()>,
}

impl Told {
    fn by(child: &mut Child) -> Self {
        let mut stderr = BufReader::new(child.stderr.take().expect("its stderr"));
        let text = Arc::new(Mutex::new(String::new()));
        let shared = text.clone();
        let reader = thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|len| len > 0) {
                shared.lock().expect("a lock").push_str(&line);
                line.clear();
            }
        });
        Self { text, reader }
    }

    #[track_caller]
    fn wait_for(&self, words: &str) {
        let since = Instant::now();
        while !self.text.lock().expect("a lock").contains(words) {
            let told = self.text.lock().expect("a lock").clone();
            assert!(since.elapsed() < PATIENCE, "no `{words}` in: {told}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// All of it, once the process has ended.
    fn all(self) -> String {
        self.reader.join().expect("the reader");
        self.text.lock().expect("a lock").clone()
    }
}

impl Forward {
    fn start(service: &Service, args: &[&str]) -> Self {
        Self::start_with_grace(service, "200ms", args)
    }

    fn start_with_grace(service: &Service, grace: &str, args: &[&str]) -> Self {
        let mut child = service
            .ops(&[&["forward", "-o", "json", "--grace", grace], args].concat())
            .spawn()
            .expect("ops starts");
        let told = Told::by(&mut child);
        // One document on stdout, whole once the listeners accept.
        let mut text = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("its stdout"));
        let rows = loop {
            let len = stdout.read_line(&mut text).expect("its stdout");
            if let Ok(document) = serde_json::from_str::<Value>(&text) {
                break document["forwards"].as_array().expect("a list").clone();
            }
            if len == 0 {
                child.wait().expect("its end");
                panic!("{}", told.all());
            }
        };
        Self { child, rows, told }
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
        self.ended()
    }

    /// Waits for the end after Ctrl-C.
    fn ended(mut self) -> String {
        assert_eq!(self.child.wait().expect("its end").code(), Some(130));
        self.told.all()
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
    let (gone, seen) = mpsc::channel();
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

/// A client that asks a SOCKS proxy for a port of this machine, which the sandbox reaches as every loopback destination.
fn connect_through_socks(proxy: u16, port: u16) -> TcpStream {
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
    assert_eq!(reply[..2], [5, 0]);
    stream
}

#[track_caller]
fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"ping").expect("it is sent");
    let mut back = [0; 4];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(&back, b"ping");
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn all_terminated(service: &Service) -> bool {
    service
        .sessions()
        .iter()
        .all(|status| status == "Terminated")
}

#[test]
fn a_socks_destination_without_connections_is_left_and_found_again() {
    let (service, port) = (service(), echo());
    let forward = Forward::start(&service, &["web-1", "-D", "0", "--idle", "300ms", "-v"]);
    assert_eq!(service.sessions().len(), 0, "none before it is needed");
    let mut stream = connect_through_socks(forward.port(0), port);
    echoes(&mut stream);
    // A connection that says nothing is still one.
    thread::sleep(Duration::from_millis(700));
    echoes(&mut stream);
    drop(stream);
    forward.told.wait_for("closed, it was idle");
    wait_until("its session ends", || all_terminated(&service));
    echoes(&mut connect_through_socks(forward.port(0), port));
    assert_eq!(service.sessions().len(), 2);
    forward.end();
}

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
    let output = ops(&service, &["forward", "web-1", "18080:80", "18080:db:81"]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("two forwards listen on `18080`: that to `80` and that to `db:81`"),
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
fn an_agent_that_is_slow_to_begin_and_to_connect_loses_nothing() {
    let service = Service::start(OPS, "late-plugin=400ms,slow-dial=100ms,strict");
    let port = store();
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    let ports = [forward.port(0); 3];
    thread::scope(|scope| {
        for port in ports {
            scope.spawn(move || upload(port, 200_000));
        }
    });
    download(forward.port(0), 200_000);
    forward.end();
}

#[test]
fn an_old_multiplexer_is_kept_alive_and_asked_for_no_large_payloads() {
    let service = Service::start(OPS, "agent-version=3.1.1511.0,max-input=1024");
    let port = store();
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
    upload(forward.port(0), 1 << 20);
    forward.end();
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
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
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
    let forward = Forward::start(&service, &["web-1", &spec(port)]);
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

/// A server that sends without end.
fn flood() -> u16 {
    serve(|mut stream| while stream.write_all(&[b'x'; CHUNK]).is_ok() {})
}

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
        thread::sleep(Duration::from_secs(2));
        before > 1 << 20 && before == moved()
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

#[test]
fn each_connection_is_a_line_for_those_who_want_to_know() {
    let service = service();
    let mut child = service
        .ops(&["forward", "web-1", "0:80", "-v"])
        .spawn()
        .expect("ops starts");
    let told = Told::by(&mut child);
    told.wait_for(" → 80 through web-1");
    let line = told.text.lock().expect("a lock").clone();
    let local = line
        .lines()
        .find_map(|line| {
            line.split(" → 80 through")
                .next()
                .filter(|l| l.len() < line.len())
        })
        .expect("the ready line");
    let port = local.rsplit(':').next().and_then(|port| port.parse().ok());
    let mut stream = connect(port.expect("a port"));
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
    )
    .expect("it is sent");
    stream
        .read_to_string(&mut String::new())
        .expect("an answer");
    drop(stream);
    told.wait_for("→ port 80 of web-1: open");
    told.wait_for("closed by the destination after");
    let id = Pid::from_raw(i32::try_from(child.id()).expect("an id")).expect("an id");
    kill_process(id, Signal::INT).expect("it is running");
    assert_eq!(child.wait().expect("its end").code(), Some(130));
    // Results go to stdout, and this has none.
    let mut out = String::new();
    let mut stdout = child.stdout.take().expect("its stdout");
    stdout.read_to_string(&mut out).expect("its stdout");
    assert_eq!(out, "");
}

#[test]
fn a_terminal_has_a_status_line_below_what_is_told() {
    let (service, port) = (service(), echo());
    let mut terminal = Terminal::start(&service, &["forward", "web-1", &spec(port), "-v"]);
    terminal.wait_for("0 connections");
    let shown = String::from_utf8_lossy(&terminal.output()).into_owned();
    let local = shown
        .split(" → ")
        .next()
        .and_then(|before| before.rsplit(':').next())
        .and_then(|port| port.trim().parse().ok());
    let mut stream = connect(local.unwrap_or_else(|| panic!("no port in {shown:?}")));
    echoes(&mut stream);
    let seen = terminal.wait_for("1 connection  ");
    drop(stream);
    terminal.wait_for_after(seen, "0 connections");
    terminal.send("\x03");
    assert_eq!(terminal.wait(), Some(130));
    let (columns, rows) = ops_tests::terminal::SIZE;
    let screen = || terminal.screen(columns, rows).screen().contents();
    wait_until("the line is taken away", || {
        !screen().contains("connections  ")
    });
    let screen = screen();
    assert!(screen.contains("closed by the client after"), "{screen}");
}
