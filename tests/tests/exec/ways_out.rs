//! However it ends, nothing of it is left running on the server.

use std::{
    io::{Read as _, Write as _},
    process::Child,
};

use ops_tests::Lab;
use rustix::process::{Pid, Signal, kill_process};

use super::{eventually, is_sleeping, odd_seconds, status_of};

/// A command that sleeps so long that no test waits for it, once it runs there.
fn sleeping(lab: &Lab, seconds: &str) -> Child {
    let line = format!("echo up; sleep {seconds}; echo over");
    let mut child = lab.ops(["exec", "web-1", "-n", "--shell", &line]).spawn();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    assert_eq!(&up, b"up\n");
    eventually("the command runs", || is_sleeping(seconds));
    child
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn a_signal_reaches_the_command_and_its_status_comes_back() {
    let lab = Lab::with_sandbox();
    for (signal, status) in [
        (Signal::INT, 130),
        (Signal::TERM, 143),
        (Signal::HUP, 129),
        (Signal::QUIT, 131),
        (Signal::USR1, 138),
        (Signal::USR2, 140),
    ] {
        let seconds = odd_seconds();
        let mut child = sleeping(&lab, &seconds);
        send(&child, signal);
        assert_eq!(status_of(&mut child), Some(status), "{signal:?}");
        eventually("the command has ended", || !is_sleeping(&seconds));
    }
}

#[test]
fn a_second_ctrl_c_ends_a_command_that_hears_none() {
    let lab = Lab::with_sandbox();
    let seconds = odd_seconds();
    let line = format!("trap 'echo heard' INT; echo up; while :; do sleep {seconds}; done");
    let mut child = lab.ops(["exec", "web-1", "-n", "--shell", &line]).spawn();
    let stdout = child.stdout.as_mut().unwrap();
    let mut up = [0; 3];
    stdout.read_exact(&mut up).unwrap();
    eventually("the command runs", || is_sleeping(&seconds));
    send(&child, Signal::INT);
    let stdout = child.stdout.as_mut().unwrap();
    let mut heard = [0; 6];
    stdout.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"heard\n");
    assert_eq!(child.try_wait().unwrap(), None);
    send(&child, Signal::INT);
    assert_eq!(status_of(&mut child), Some(130));
    eventually("the command has ended", || !is_sleeping(&seconds));
}

#[test]
fn an_interruption_reaches_all_servers_and_starts_no_more() {
    let lab = Lab::with_sandbox();
    let seconds = odd_seconds();
    let line = format!("echo up; sleep {seconds}");
    let words = ["exec", "-n", "--parallel", "2", "--shell", &line];
    let servers = ["web-1", "web-2", "web-3"];
    let mut child = lab.ops(words.iter().chain(&servers)).spawn();
    let mut up = [0; 2 * "web-1: up\n".len()];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    eventually("the commands run", || is_sleeping(&seconds));
    send(&child, Signal::INT);
    assert_eq!(status_of(&mut child), Some(130));
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(
        said.contains("0 of 3 succeeded, 2 failed, 1 not started"),
        "{said}"
    );
    assert!(said.contains("not started: web-3 (interrupted)"), "{said}");
    eventually("the commands have ended", || !is_sleeping(&seconds));
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
    assert_eq!(status_of(&mut child), Some(141));
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "");
    eventually("the command has ended", || !is_sleeping(&seconds));
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
fn an_input_that_breaks_off_with_its_client_is_no_end_of_input() {
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
    // The server keeps the command for a client that may come back; its input stays open.
    assert!(!is_sleeping(&seconds));
}
