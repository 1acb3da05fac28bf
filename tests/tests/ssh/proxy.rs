//! `ops ssh-proxy` by itself: what is on its streams, what is called, and that the session ends
//! with it whatever the way.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Stdio},
};

use ops_sandbox::Pace;
use ops_test_needs::needs;
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, OPS, WEB_1, wait};

/// The proxy with a pipe to its input, its first bytes read.
fn running(client: &Client, target: &str) -> (Child, Vec<u8>) {
    let mut child = client
        .command(OPS, ["ssh-proxy", target])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ops starts");
    let mut first = vec![0; 8];
    let stdout = child.stdout.as_mut().expect("its stdout");
    stdout.read_exact(&mut first).expect("the banner");
    (child, first)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it runs");
}

#[test]
fn an_id_is_resolved_by_nobody_and_the_first_bytes_are_the_servers() {
    let client = Client::new();
    let (mut child, first) = running(&client, WEB_1);
    assert_eq!(first, b"SSH-2.0-");
    assert_eq!(client.service.calls(), ["StartSession"]);
    // The server hangs up on rubbish, and nothing but its own bytes is on stdout.
    let mut stdin = child.stdin.take().expect("its stdin");
    stdin.write_all(b"no SSH\r\n").expect("bytes are taken");
    let said = wait(child, "ssh-proxy");
    assert!(said.stdout.starts_with("ops_sandbox\r\n"), "{said:?}");
    assert_eq!((said.status, said.stderr.as_str()), (0, ""), "{said:?}");
    client.all_ended(1);
    drop(stdin);
    let (mut child, _) = running(&client, "web-1");
    assert_eq!(client.calls("DescribeInstances"), 1);
    child.kill().expect("it runs");
    child.wait().expect("its end");
}

#[test]
fn the_session_ends_with_every_signal_and_without_a_word() {
    let client = Client::new();
    let ways: [(&[Signal], i32); 5] = [
        (&[Signal::TERM], 143),
        (&[Signal::HUP], 143),
        (&[Signal::INT], 130),
        // Ctrl-C reaches ssh and its ProxyCommand, and ssh hangs up on that as it ends; a terminal
        // that closes may do so twice.
        (&[Signal::INT, Signal::HUP], 130),
        (&[Signal::HUP, Signal::HUP, Signal::HUP], 143),
    ];
    // So that the second signal comes while the service is told.
    client.service.set_faults("slow=ssm:TerminateSession/300ms");
    for (count, (signals, status)) in (1..).zip(ways) {
        let (child, _) = running(&client, WEB_1);
        for &one in signals {
            signal(&child, one);
        }
        let said = wait(child, "ssh-proxy");
        // Either of two signals that come together may be seen first.
        assert!(
            said.status == status || signals.len() > 1 && said.status == 143,
            "{signals:?}: {said:?}"
        );
        assert_eq!(said.stderr, "");
        client.all_ended(count);
    }
}

#[test]
fn a_signal_while_the_session_starts_leaves_none_behind() {
    let client = Client::new();
    client.service.set_faults("slow=ssm:StartSession/500ms");
    let mut child = client
        .command(OPS, ["-vv", "ssh-proxy", WEB_1])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ops starts");
    let stderr = child.stderr.take().expect("its stderr");
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("asking for a session")));
    assert_eq!(client.calls("StartSession"), 0);
    signal(&child, Signal::HUP);
    assert_eq!(wait(child, "ssh-proxy").status, 143);
    client.all_ended(1);
}

#[test]
fn the_time_limit_of_ssh_is_that_of_its_session() {
    needs!("ssh", "ssh-keygen");
    let client = Client::new();
    client.service.set_faults("slow=ssm:StartSession/60s");
    let said = client.ops(["--timeout", "1s", "ssh", WEB_1, "true"]);
    assert_eq!(said.status, 255, "{said:?}");
    assert!(said.stderr.contains("--timeout was reached"), "{said:?}");
}

#[test]
fn the_session_ends_when_nobody_reads_any_more() {
    let client = Client::new();
    let (mut child, _) = running(&client, WEB_1);
    drop(child.stdout.take());
    // Something to answer.
    let mut stdin = child.stdin.take().expect("its stdin");
    let _ =
        stdin.write_all(b"SSH-2.0-x\r\nrubbish that is long enough to be taken for a packet\r\n");
    let said = wait(child, "ssh-proxy");
    assert_eq!((said.status, said.stderr.as_str()), (0, ""), "{said:?}");
    client.all_ended(1);
}

#[test]
fn the_session_ends_a_while_after_the_input() {
    let client = Client::new();
    let (mut child, _) = running(&client, WEB_1);
    drop(child.stdin.take());
    let said = wait(child, "ssh-proxy");
    assert_eq!((said.status, said.stderr.as_str()), (0, ""), "{said:?}");
    client.all_ended(1);
}

#[test]
fn a_failure_is_one_line_on_stderr_and_nothing_on_stdout() {
    let client = Client::new();
    for (faults, target, words) in [
        (
            "",
            "nosuch",
            &["OPS-E-NOT-FOUND", "no running instance is called `nosuch`"][..],
        ),
        (
            "",
            "web-4",
            &[
                "OPS-E-UNREACHABLE",
                "`web-4` is stopped",
                "aws ec2 start-instances",
            ],
        ),
        // An id is not looked up before, but it is before anything wrong is said of it.
        (
            "",
            "i-0d4e5f60718293a4b",
            &["`web-4` is stopped", "aws ec2 start-instances"],
        ),
        (
            "",
            "i-0123456789abcdef0",
            &["OPS-E-NOT-FOUND", "there is no instance", "eu-west-1"],
        ),
        (
            "",
            "worker-1",
            &["OPS-E-UNREACHABLE", "is not connected to Session Manager"],
        ),
        (
            "deny=ssm:StartSession",
            WEB_1,
            &[
                "OPS-E-DENIED",
                "ssm:StartSession",
                "document/AWS-StartSSHSession",
            ],
        ),
    ] {
        client.service.set_faults(faults);
        let said = client.ops(["ssh-proxy", target]).exits(255);
        assert_eq!(
            (said.stdout.as_str(), said.stderr.lines().count()),
            ("", 1),
            "{said:?}"
        );
        for word in words {
            assert!(said.stderr.contains(word), "{word}: {said:?}");
        }
        // A line that is read on a terminal says nothing twice.
        // The statement, which is there to be copied, names the resource once more.
        let told = said.stderr.split("the IAM statement").next().unwrap_or("");
        assert!(
            told.matches("document/AWS-StartSSHSession").count() <= 1,
            "{said:?}"
        );
    }
    client.service.set_faults("");
    let said = client.ops(["ssh-proxy", WEB_1, "4"]).exits(255);
    assert!(
        said.stderr
            .starts_with("ops: OPS-E-UNREACHABLE: nothing answers on port 4 of ")
            && said
                .stderr
                .contains("ipc messaging received timeout signal")
            && said.stderr.lines().count() == 1,
        "{said:?}"
    );
}

#[test]
fn a_port_that_says_nothing_is_told_of_long_before_the_service_hears_of_it() {
    // The agent's worker has died, and the service learns that after a minute.
    let client = Client::with(|options| options.pace = Pace::Real);
    let mut child = client
        .command(OPS, ["ssh-proxy", WEB_1, "4"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ops starts");
    let stderr = child.stderr.take().expect("its stderr");
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let line = lines.next().expect("a line");
    assert!(
        line.contains("nothing has come from port 4 for 5 s; probably nothing listens there"),
        "{line}"
    );
    signal(&child, Signal::HUP);
    assert_eq!(wait(child, "ssh-proxy").status, 143);
    client.all_ended(1);
}
