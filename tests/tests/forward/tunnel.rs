//! `ops forward` as a test holds it.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpStream,
    process::{Child, Command, Output},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use ops_tests::service::{PATIENCE, Service};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::far::connect;

pub(crate) const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");

pub(crate) fn service() -> Service {
    Service::start(OPS, "")
}

/// `ops forward` in the foreground, its listeners ready.
pub(crate) struct Forward {
    pub(crate) child: Child,
    pub(crate) rows: Vec<Value>,
    pub(crate) told: Told,
}

/// What a process says on stderr, while it says it.
pub(crate) struct Told {
    said: Arc<Said>,
    reader: thread::JoinHandle<()>,
}

#[derive(Default)]
struct Said {
    text: Mutex<String>,
    grown: Condvar,
}

impl Told {
    pub(crate) fn by(child: &mut Child) -> Self {
        let mut stderr = BufReader::new(child.stderr.take().expect("its stderr"));
        let said = Arc::<Said>::default();
        let shared = said.clone();
        let reader = thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|len| len > 0) {
                shared.text.lock().expect("a lock").push_str(&line);
                shared.grown.notify_all();
                line.clear();
            }
        });
        Self { said, reader }
    }

    /// What was said so far.
    pub(crate) fn so_far(&self) -> String {
        self.said.text.lock().expect("a lock").clone()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str) {
        let text = self.said.text.lock().expect("a lock");
        let (text, _) = self
            .said
            .grown
            .wait_timeout_while(text, PATIENCE, |text| !text.contains(words))
            .unwrap_or_else(PoisonError::into_inner);
        let told = text.clone();
        // A panic with the lock held would reach the reader.
        drop(text);
        assert!(told.contains(words), "no `{words}` in: {told}");
    }

    /// All of it, once the process has ended.
    pub(crate) fn all(self) -> String {
        let text = self.said.clone();
        self.reader.join().expect("the reader");
        text.text.lock().expect("a lock").clone()
    }
}

impl Forward {
    pub(crate) fn start(service: &Service, args: &[&str]) -> Self {
        Self::start_with_grace(service, "200ms", args)
    }

    pub(crate) fn start_with_grace(service: &Service, grace: &str, args: &[&str]) -> Self {
        Self::started(service.ops(&[&["forward", "-o", "json", "--grace", grace], args].concat()))
    }

    /// Starts a command line of the test's own.
    pub(crate) fn started(mut command: Command) -> Self {
        let mut child = command.spawn().expect("ops starts");
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

    pub(crate) fn port(&self, index: usize) -> u16 {
        let port = self.rows[index]["localPort"].as_u64().expect("a port");
        u16::try_from(port).expect("a port")
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.port(0))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill_process(Pid::from_raw(id).expect("a process id"), signal).expect("it is running");
    }

    /// Ctrl-C, and what it said on stderr.
    pub(crate) fn end(self) -> String {
        self.signal(Signal::INT);
        self.ended()
    }

    /// Waits for the end after Ctrl-C.
    pub(crate) fn ended(mut self) -> String {
        assert_eq!(self.child.wait().expect("its end").code(), Some(130));
        self.told.all()
    }
}

pub(crate) fn spec(port: u16) -> String {
    format!("0:127.0.0.1:{port}")
}

pub(crate) fn ops(service: &Service, args: &[&str]) -> Output {
    service.ops(args).output().expect("ops runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn left_over(service: &Service) -> Vec<String> {
    let folder = service.home().join(".local/state/ops/run/forward");
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// The local port in a ready line.
#[track_caller]
pub(crate) fn port_of(shown: &str) -> u16 {
    shown
        .split(" → ")
        .next()
        .and_then(|before| before.rsplit(':').next())
        .and_then(|port| port.trim().parse().ok())
        .unwrap_or_else(|| panic!("no port in {shown:?}"))
}

/// For what nobody tells of: looks again and again.
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

pub(crate) fn all_terminated(service: &Service) -> bool {
    service
        .sessions()
        .iter()
        .all(|status| status == "Terminated")
}
