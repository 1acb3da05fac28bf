//! The SSH server against the usual client, the one that `ops ssh` runs.

use std::{
    fs,
    path::PathBuf,
    process::{Output, Stdio},
    sync::Arc,
};

use ops_test_needs::needs;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::TcpListener,
    process::Command,
};

use crate::{
    agent::machine::Machine,
    fleet::{Fleet, InstanceState},
    network::Network,
};

/// One instance whose SSH server is reached through a port of this machine, and a client's files.
struct Server {
    machine: Machine,
    port: u16,
    client: tempfile::TempDir,
    _state: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine {
            serve_ssh: super::serve,
            instance: Fleet::load(None, 0).unwrap().listed_as("web-1").unwrap(),
            state: Arc::new(InstanceState::at(folder.path().join("web-1"))),
            network: Arc::new(Network::default()),
            slow_dial: std::time::Duration::ZERO,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = machine.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut near, far) = tokio::io::duplex(64 * 1024);
                super::serve(&served, far).unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut stream, &mut near).await });
            }
        });
        let server = Self {
            machine,
            port,
            client: tempfile::tempdir().unwrap(),
            _state: folder,
        };
        // The client's key is made as a host's is.
        let key =
            crate::agent::keys::host_key(&InstanceState::at(server.client.path().join("made")))
                .unwrap();
        fs::copy(
            server.client.path().join("made/ssh_host_ed25519_key"),
            server.client.path().join("id"),
        )
        .unwrap();
        let host = crate::agent::keys::host_key(&server.machine.state).unwrap();
        let known = format!(
            "[127.0.0.1]:{port} {}\n",
            host.public_key().to_openssh().unwrap()
        );
        fs::write(server.client.path().join("known_hosts"), known).unwrap();
        server.authorize(&key.public_key().to_openssh().unwrap());
        server
    }

    fn home(&self) -> PathBuf {
        self.machine.state.home().unwrap()
    }

    fn authorize(&self, line: &str) {
        let ssh = self.home().join(".ssh");
        fs::create_dir_all(&ssh).unwrap();
        fs::write(ssh.join("authorized_keys"), format!("{line}\n")).unwrap();
    }

    /// A client program that knows the host and the key, and nothing of the configuration of
    /// whoever runs the tests.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let file = |name: &str| self.client.path().join(name).display().to_string();
        command
            .args(["-F", "none"])
            .args(["-o", &format!("Port={}", self.port)])
            .args(["-o", "HostName=127.0.0.1", "-o", "User=ec2-user"])
            .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"])
            .args(["-o", &format!("IdentityFile={}", file("id"))])
            .args(["-o", &format!("UserKnownHostsFile={}", file("known_hosts"))])
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn ssh(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("ssh");
        command.args(arguments);
        command
    }
}

async fn finish(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that reads no more is no fault of the test.
    tokio::spawn(async move { stdin.write_all(&input).await });
    child.wait_with_output().await.unwrap()
}

/// Bytes that no text has, of which no two lines are alike.
fn noise(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

#[tokio::test]
async fn a_command_has_its_streams_apart_and_its_exit_code() {
    needs!("ssh");
    let server = Server::start().await;
    let script = "echo out; echo err >&2; exit 7";
    let output = finish(server.ssh(&["web-1", script]), b"").await;
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.status.code(), Some(7));
}

#[tokio::test]
async fn bytes_pass_unchanged_both_ways_and_the_end_of_input_arrives() {
    needs!("ssh");
    let server = Server::start().await;
    let sent = noise(3_000_000);
    let output = finish(server.ssh(&["web-1", "cat; echo end >&2"]), &sent).await;
    assert!(
        output.stdout == sent,
        "{} bytes came back",
        output.stdout.len()
    );
    assert_eq!(output.stderr, b"end\n");
}

#[tokio::test]
async fn a_shell_without_a_terminal_reads_its_commands() {
    needs!("ssh");
    let server = Server::start().await;
    let output = finish(
        server.ssh(&["web-1"]),
        b"echo at $HOSTNAME as $USER; exit 3\n",
    )
    .await;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "at web-1 as ec2-user\n"
    );
    assert_eq!(output.status.code(), Some(3));
}

#[tokio::test]
async fn a_terminal_is_given_when_asked_for() {
    needs!("ssh");
    let server = Server::start().await;
    let script = "test -t 0 && test -t 1 && echo terminal $TERM";
    let mut command = server.ssh(&["-tt", "web-1", script]);
    command.env("TERM", "vt220");
    let output = finish(command, b"").await;
    assert_eq!(output.stdout, b"terminal vt220\r\n");
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn the_clients_variables_arrive_if_they_are_harmless() {
    needs!("ssh");
    let server = Server::start().await;
    let options = ["-o", "SetEnv=LC_NOTE=yes LD_NOTE=no", "web-1"];
    let mut arguments = options.to_vec();
    arguments.push("echo [$LC_NOTE] [$LD_NOTE]");
    let output = finish(server.ssh(&arguments), b"").await;
    assert_eq!(output.stdout, b"[yes] []\n");
}

#[tokio::test]
async fn a_program_killed_by_a_signal_is_a_failure() {
    needs!("ssh");
    let server = Server::start().await;
    let output = finish(server.ssh(&["web-1", "kill -TERM $$"]), b"").await;
    assert_eq!(output.status.code(), Some(255));
}

#[tokio::test]
async fn a_key_that_nobody_authorized_is_refused() {
    needs!("ssh");
    let server = Server::start().await;
    server.authorize("");
    let output = finish(server.ssh(&["web-1", "true"]), b"").await;
    assert_eq!(output.status.code(), Some(255));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Permission denied (publickey)"), "{said}");
}

#[tokio::test]
async fn connections_are_forwarded_with_both_ends_and_refused_where_nobody_listens() {
    needs!("ssh");
    let server = Server::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await.unwrap();
        // Written after the other side's end was seen: it must still arrive.
        stream.write_all(b"answer to ").await.unwrap();
        stream.write_all(&question).await.unwrap();
    });
    let destination = format!("localhost:{port}");
    let output = finish(server.ssh(&["-W", &destination, "web-1"]), b"question").await;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "answer to question"
    );
    answer.await.unwrap();
    let output = finish(server.ssh(&["-W", &destination, "web-1"]), b"").await;
    assert_eq!(output.status.code(), Some(255));
}

#[tokio::test]
async fn sftp_moves_files_names_and_times() {
    needs!("ssh", "sftp");
    let server = Server::start().await;
    let local = server.client.path();
    let sent = noise(5_000_000);
    fs::write(local.join("up"), &sent).unwrap();
    let stamp = fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890));
    let file = fs::File::options()
        .append(true)
        .open(local.join("up"))
        .unwrap();
    file.set_times(stamp).unwrap();
    let batch = format!(
        "put -p {0}/up first\nrename first second\nmkdir folder\nput {0}/up folder/third\nln -s second link\n\
         get -p link {0}/down\nrm folder/third\nrmdir folder\nchmod 600 second\nls -l\n-get missing {0}/missing\n",
        local.display()
    );
    let mut command = server.command("sftp");
    command.args(["-b", "-", "web-1"]);
    let output = finish(command, batch.as_bytes()).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(fs::read(local.join("down")).unwrap() == sent, "{said}");
    let second = fs::metadata(server.home().join("second")).unwrap();
    assert_eq!(
        second.modified().unwrap(),
        fs::metadata(local.join("up")).unwrap().modified().unwrap()
    );
    assert!(!server.home().join("folder").exists());
    assert!(said.contains("-rw-------"), "{said}");
    assert!(said.contains("Feb 13  2009"), "{said}");
    assert!(said.contains("not found"), "{said}");
}

#[tokio::test]
async fn names_that_are_no_text_survive_a_copy() {
    needs!("ssh", "scp");
    use std::os::unix::ffi::OsStrExt as _;
    let server = Server::start().await;
    let local = server.client.path().join("tree");
    fs::create_dir(&local).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"not \xffutf-8");
    if fs::write(local.join(name), "content").is_err() {
        return; // This file system has no such names.
    }
    let mut command = server.command("scp");
    command.args(["-r", "-s"]).arg(&local).arg("web-1:copied");
    let output = finish(command, b"").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let copy = server.home().join("copied").join(name);
    assert_eq!(fs::read_to_string(copy).unwrap(), "content");
}
