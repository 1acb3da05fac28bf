//! However it ends, nothing of it is left running on the server.

use std::{
    io::{Read as _, Write as _},
    process::Child,
};

use ops_tests::Lab;
use rustix::process::{Pid, Signal, kill_process};

use super::{eventually, is_running, odd_seconds};

/// A command that sleeps so long that no test waits for it, once it runs there.
fn sleeping(lab: &Lab, seconds: &str, before: &str) -> Child {
    let line = format!("{before} echo up; sleep {seconds}; echo over");
    let mut child = lab.ops(["exec", "web-1", "-n", "--shell", &line]).spawn();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    assert_eq!(&up, b"up\n");
    eventually("the command runs", || {
        is_running(&format!("sleep {seconds}"))
    });
    child
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn a_signal_reaches_the_command_and_its_status_comes_back() {
    let lab = Lab::with_sandbox();
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let seconds = odd_seconds();
        let mut child = sleeping(&lab, &seconds, "");
        send(&child, signal);
        let ended = child.wait().unwrap();
        assert_eq!(ended.code(), Some(status), "{signal:?}");
        eventually("the command has ended", || {
            !is_running(&format!("sleep {seconds}"))
        });
    }
}

#[test]
fn a_second_ctrl_c_ends_a_command_that_hears_none() {
    let lab = Lab::with_sandbox();
    let seconds = odd_seconds();
    let mut child = sleeping(&lab, &seconds, "trap '' INT;");
    send(&child, Signal::INT);
    assert!(is_running(&format!("sleep {seconds}")));
    send(&child, Signal::INT);
    let ended = child.wait().unwrap();
    assert_eq!(ended.code(), Some(130));
    eventually("the command has ended", || {
        !is_running(&format!("sleep {seconds}"))
    });
}

#[test]
fn when_nobody_reads_its_output_the_command_ends_quietly() {
    let lab = Lab::with_sandbox();
    let seconds = odd_seconds();
    let line = format!("yes & sleep {seconds}");
    let mut child = lab.ops(["exec", "web-1", "-n", "--shell", &line]).spawn();
    let mut some = [0; 4];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut some)
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    eventually("the command has ended", || {
        !is_running(&format!("sleep {seconds}"))
    });
}

#[test]
fn a_pipe_to_head_is_clean() {
    let lab = Lab::with_sandbox();
    let binary = ops_tests::lab::binary();
    let line = format!(
        "{} exec web-1 -n -- yes | head -1; echo ${{PIPESTATUS[0]}}",
        binary.display()
    );
    let done = lab.run("bash", ["-c", &line]).output();
    assert_eq!((&*done.stdout, &*done.stderr), ("y\n141\n", ""), "{done}");
}

#[test]
fn a_killed_client_leaves_nothing_for_long() {
    let lab = Lab::with_sandbox();
    let seconds = odd_seconds();
    let line = format!("cat; sleep {seconds}");
    let mut child = lab.ops(["exec", "web-1", "--shell", &line]).spawn();
    // An input that breaks off with its client is no end of input: the sleep never begins.
    child.stdin.as_mut().unwrap().write_all(b"begun\n").unwrap();
    let mut begun = [0; 6];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut begun)
        .unwrap();
    assert_eq!(&begun, b"begun\n");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!is_running(&format!("sleep {seconds}")));
}
