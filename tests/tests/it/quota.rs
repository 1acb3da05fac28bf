//! The quota of StartSession, which all processes of a user share.

use std::{
    net::TcpListener,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use ops_tests::service::{PATIENCE, Service};
use serde_json::Value;

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");

/// A port of this machine, and so of the sandbox's, that takes every connection and closes it.
fn closing_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        // Each is dropped, and so closed, at once.
        listener.incoming().for_each(drop);
    });
    port
}

fn sessions_started(service: &Service) -> usize {
    service.sessions().len()
}

#[test]
fn many_processes_at_once_take_turns_and_none_fails() {
    let service = Service::start(OPS, "tps=StartSession/3");
    let port = closing_port().to_string();
    let children: Vec<Child> = (0..12)
        .map(|_| {
            let mut ops = service.ops(&["ssh-proxy", "i-0a1b2c3d4e5f60718", &port]);
            ops.stdin(Stdio::null()).spawn().expect("ops starts")
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("an end");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {text}", output.status);
    }
    assert_eq!(sessions_started(&service), 12);
    // They took turns: twelve that do not would be throttled some twenty times before the last is
    // served.
    let calls = service.calls();
    let starts = calls.iter().filter(|call| *call == "StartSession").count();
    assert!(starts <= 20, "{starts} calls for 12 sessions");
}

#[test]
fn a_copy_to_many_servers_takes_turns_and_none_is_left_out() {
    let fleet = tempfile::NamedTempFile::new().expect("a file");
    let names: String = (1..=9).map(|n| format!("  - name: node-{n}\n")).collect();
    std::fs::write(fleet.path(), format!("instances:\n{names}")).expect("a fleet");
    let service = Service::start_with(OPS, |options| {
        options.fleet = Some(fleet.path().to_owned());
        options.faults = "tps=StartSession/3".parse().expect("a fault");
    });
    let small = service.home().join("small");
    std::fs::write(&small, "a small file\n").expect("a file");
    let output = service
        .ops(&["cp", &small.display().to_string(), "node-*:copied"])
        .output()
        .expect("ops runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", output.status);
    assert!(sessions_started(&service) >= 9, "{text}");
}

#[test]
fn a_throttled_start_is_tried_more_often_than_any_fixed_number_and_says_so() {
    let service = Service::start(OPS, "throttle=ssm:StartSession/7");
    let output = service
        .ops(&[
            "ssh-proxy",
            "i-0a1b2c3d4e5f60718",
            &closing_port().to_string(),
        ])
        .output()
        .expect("ops runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", output.status);
    assert!(text.contains("waiting to start a session"), "{text}");
    assert_eq!(text.matches("waiting to start").count(), 1, "{text}");
}

#[test]
fn a_throttled_start_ends_with_the_time_limit() {
    let service = Service::start(OPS, "throttle=ssm:StartSession/100000");
    let output = service
        .ops(&["shell", "web-1", "--timeout", "1s"])
        .output()
        .expect("ops runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(124), "{text}");
    assert!(text.contains("--timeout was reached"), "{text}");
    assert!(text.contains("not its turn"), "{text}");
    assert!(!text.contains("agent"), "no agent was asked: {text}");
}

#[test]
fn a_start_that_is_not_answered_is_no_fault_of_an_agent() {
    let service = Service::start(OPS, "slow=ssm:StartSession/60s");
    let output = service
        .ops(&["shell", "web-1", "--timeout", "1s"])
        .output()
        .expect("ops runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(124), "{text}");
    assert!(
        text.contains("StartSession had not answered in `eu-west-1`"),
        "{text}"
    );
}

#[test]
fn the_quota_is_on_with_agents_that_are_paced_as_real_ones() {
    let free = Service::start(OPS, "");
    let variables = |service: &Service| {
        let names = service.environment().into_iter().map(|(name, _)| name);
        names.collect::<Vec<_>>()
    };
    assert!(variables(&free).contains(&"OPS_START_RATE".into()));
    let real = Service::start_with(OPS, |options| options.pace = ops_sandbox::Pace::Real);
    assert!(!variables(&real).contains(&"OPS_START_RATE".into()));
}

/// The tickets that wait for a start, by their urgency, as the processes of a user share them.
fn waiting_starts(runtime: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(runtime.join("ops/pace")) else {
        return Vec::new();
    };
    let files = entries.filter_map(Result::ok).map(|entry| entry.path());
    // One that is being written just now is read the next time.
    let read = |path| serde_json::from_slice::<Value>(&std::fs::read(path).ok()?).ok();
    let queue = |pace: Value| pace["StartSession"]["queue"].as_array().cloned();
    let tickets = files.filter_map(read).filter_map(queue).flatten();
    tickets
        .filter_map(|ticket| Some(ticket["urgency"].as_str()?.to_owned()))
        .collect()
}

fn wait_for_starts(runtime: &Path, expected: &[&str]) {
    let begun = Instant::now();
    loop {
        let mut waiting = waiting_starts(runtime);
        waiting.sort();
        if waiting == expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{waiting:?} wait for a start");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Nothing waits here for a turn that comes: after the burst there is one in a quarter of an hour,
/// and the queue in the shared file shows what goes before what.
#[test]
fn the_further_sessions_of_a_large_copy_let_everything_else_go_first() {
    let service = Service::start(OPS, "");
    let runtime = service.home().join("run");
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&runtime)
        .expect("a folder");
    let large = service.home().join("large");
    let file = std::fs::File::create(&large).expect("a file");
    file.set_len(160 << 20).expect("a size");
    let start = |args: &[&str]| {
        let mut ops = service.ops(args);
        ops.env("XDG_RUNTIME_DIR", &runtime)
            .env("OPS_START_RATE", "0.001");
        Started(ops.spawn().expect("ops starts"))
    };
    let large = large.display().to_string();
    let _copy = start(&["cp", "--sessions", "4", &large, "web-1:sent"]);
    wait_for_starts(&runtime, &["Bulk", "Bulk", "Bulk"]);
    let _shell = start(&["ssh-proxy", "web-1", &closing_port().to_string()]);
    wait_for_starts(&runtime, &["Bulk", "Bulk", "Bulk", "Interactive"]);
    // The same downwards: the first session lists, and the burst is used up.
    let _fetch = start(&[
        "cp",
        &format!("web-1:{large}"),
        &runtime.display().to_string(),
    ]);
    wait_for_starts(
        &runtime,
        &["Bulk", "Bulk", "Bulk", "Interactive", "Interactive"],
    );
}

/// A process that is ended with the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
