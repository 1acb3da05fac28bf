//! `ops ssh` and what it has started end together, whatever ends them.

use std::{
    io::{BufRead as _, Read as _},
    process::Stdio,
};

use ops_test_needs::needs;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::client::{Client, OPS, WEB_1, wait, wait_until};

/// The ssh clients of this user, as ps shows them: their command lines name files in his home.
fn ssh_clients(client: &Client) -> Vec<String> {
    let home = client.home().to_str().expect("a path");
    let listed = client
        .run("ps", ["-A", "-ww", "-o", "pid=,args="])
        .success();
    listed
        .stdout
        .lines()
        .filter(|line| line.contains(home))
        .filter(|line| {
            line.split_whitespace()
                .nth(1)
                .is_some_and(|program| program == "ssh" || program.ends_with("/ssh"))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn ssh_and_its_session_end_with_ops_whatever_ends_it() {
    needs!("ssh", "ssh-keygen", "ps");
    let client = Client::with_key();
    let signals = [
        Signal::KILL,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::TERM,
        Signal::HUP,
    ];
    // Without a terminal of its own: where the leader of a terminal ends, the system hangs up on
    // all the others anyway.
    let words = ["-p", "team", "ssh", "-F", "none", "web-1"];
    for (before, signal) in signals.into_iter().enumerate() {
        let mut ops = client
            .command(OPS, words)
            .arg("echo begun; sleep 1000")
            .spawn()
            .expect("ops starts");
        let mut begun = [0; 6];
        let stdout = ops.stdout.as_mut().expect("a pipe");
        stdout.read_exact(&mut begun).expect("a first line");
        assert_eq!(ssh_clients(&client).len(), 1, "{signal:?}");
        kill_process(Pid::from_child(&ops), signal).expect("it runs");
        // Its streams stay open for as long as ssh has them.
        wait(ops, "ops ssh");
        wait_until("ssh has ended", || ssh_clients(&client).is_empty());
        client.all_ended(before + 1);
    }
}

/// As with OpenSSH's server, which hangs up the terminal at the end of the connection.
#[test]
fn a_program_on_a_terminal_of_the_server_ends_with_the_session() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key();
    let words = ["-p", "team", "ssh", "-F", "none", "-tt", "web-1"];
    let mut ops = client
        .command(OPS, words)
        .arg("echo $$; exec sleep 1000")
        .spawn()
        .expect("ops starts");
    let mut first = String::new();
    let stdout = ops.stdout.take().expect("a pipe");
    std::io::BufReader::new(stdout)
        .read_line(&mut first)
        .expect("a first line");
    let program = first.trim().parse().ok().and_then(Pid::from_raw);
    let program = program.expect("a process id");
    kill_process(Pid::from_child(&ops), Signal::KILL).expect("it runs");
    wait(ops, "ops ssh");
    client.all_ended(1);
    wait_until("the program has ended", || {
        test_kill_process(program).is_err()
    });
}

#[test]
fn the_terminal_of_an_ops_that_is_killed_is_put_in_order_by_ssh() {
    needs!("ssh", "ssh-keygen", "sh", "stty");
    let client = Client::with_key();
    // A shell that, unlike an interactive one, leaves the terminal as the programs before have left
    // it.
    let script = format!(
        "sh -c 'echo $$ >ops-id; exec {OPS} -p team ssh -F none web-1'\n\
         until stty -a | grep -q ' icanon'; do sleep 0.1; done\necho in order"
    );
    let mut terminal = client.terminal("sh", &["-c", &script]);
    terminal.wait_for("web-1:~$ ");
    assert!(!terminal.is_cooked());
    let id = std::fs::read_to_string(client.home().join("ops-id")).expect("its id");
    let id = id.trim().parse().ok().and_then(Pid::from_raw);
    kill_process(id.expect("an id"), Signal::KILL).expect("it runs");
    terminal.wait_for("in order");
    terminal.wait();
    assert!(ssh_clients(&client).is_empty());
    client.all_ended(1);
}

#[test]
fn the_session_of_a_proxy_ends_with_the_process_that_it_belongs_to() {
    needs!("sleep", "ssh-keygen");
    let client = Client::with_key();
    let mut owner = client.command("sleep", ["1000"]).spawn().expect("sleep");
    let id = owner.id().to_string();
    let mut proxy = client
        .command(OPS, ["ssh-proxy", "--owner", &id, WEB_1])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ops starts");
    // Held open: its end would end the session too.
    let input = proxy.stdin.take();
    let mut banner = [0; 8];
    proxy
        .stdout
        .as_mut()
        .expect("a pipe")
        .read_exact(&mut banner)
        .expect("the server's first bytes");
    assert_eq!(&banner, b"SSH-2.0-");
    kill_process(Pid::from_child(&owner), Signal::KILL).expect("it runs");
    owner.wait().expect("its end");
    wait(proxy, "the proxy").exits(143);
    client.all_ended(1);
    drop(input);
}
