//! Commands, terminals, forwards, git and shared connections, by name and by id, with plain ssh and
//! with `ops ssh`.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
};

use ops_test_needs::needs;
use ops_tests::ports::on_a_free_port;
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, OPS, WEB_1, WEB_2, digest, finish, pattern, wait_until};

/// `-F none` keeps the configuration of whoever runs the tests out.
fn ops_ssh<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["-p", "team", "ssh", "-F", "none"], words].concat()
}

#[test]
fn plain_ssh_reaches_servers_by_name_and_by_id() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key().installed("team");
    for target in ["web-1", WEB_1, "ec2-user@web-1"] {
        let said = client.ssh([target, "uname; echo $HOSTNAME"]).success();
        assert_eq!(said.stdout, "Linux\nweb-1\n");
        // Nor at its end, at which ssh hangs up on its proxy.
        assert!(!said.stderr.contains("ops:"), "{said:?}");
    }
    assert_eq!(client.ssh(["web-1", "exit 7"]).exits(7).stdout, "");
    client.all_ended(4);
}

#[test]
fn an_id_without_an_entry_goes_through_the_entry_for_all_ids() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key();
    client
        .ops(["-p", "team", "ssh-config", "--install", "web-1"])
        .success();
    let said = client.ssh([WEB_2, "echo $HOSTNAME"]).success();
    assert_eq!(said.stdout, "web-2\n");
    // An id needs no look-up, and neither does an entry.
    let looked_up = client.calls("DescribeInstances");
    client.ssh(["web-1", "true"]).success();
    assert_eq!(client.calls("DescribeInstances"), looked_up);
}

#[test]
fn ops_ssh_needs_no_configuration_and_passes_everything_on() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key();
    // A host that ssh meets for the first time makes a note, which `-q` of ops is against too.
    let quiet = client.ops(["-q"].into_iter().chain(ops_ssh(&["web-1", "uname"])));
    assert_eq!(quiet.success().stderr, "");
    let noted = client.ops(ops_ssh(&["web-2", "uname"])).success();
    assert!(noted.stderr.contains("Permanently added"), "{noted:?}");
    for (words, stdout) in [
        (&["web-1", "uname"][..], "Linux\n"),
        (&[WEB_1, "--", "uname"], "Linux\n"),
        (&["-v", "me@web-1", "echo", "$LOGNAME"], "me\n"),
        (&["web-1", "-l", "you", "echo $LOGNAME"], "you\n"),
        (
            &["--user", "we", "web-1", "-4", "--", "echo $LOGNAME"],
            "we\n",
        ),
        (&["web-1", "-tt", "tty -s && stty raw; printf x"], "x"),
    ] {
        let said = client.ops(ops_ssh(words)).success();
        assert_eq!(said.stdout, stdout, "{words:?}");
    }
    client.ops(ops_ssh(&["web-1", "exit 7"])).exits(7);
    // What ssh gives when a signal ended the command.
    client.ops(ops_ssh(&["web-1", "kill -TERM $$"])).exits(255);
    let said = finish(
        &mut client.command(OPS, ops_ssh(&["web-1", "tr a-z A-Z"])),
        b"typed\n",
    );
    assert_eq!(said.success().stdout, "TYPED\n");
}

#[test]
fn both_directions_at_once_do_not_stop_each_other() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key();
    let sent = pattern(7, 24 << 20);
    let file = client.home().join("sent");
    fs::write(&file, &sent).expect("a file");
    let back = client.home().join("back");
    let mut command = client.command(OPS, ops_ssh(&["web-1", "cat"]));
    command
        .stdin(fs::File::open(&file).expect("a file"))
        .stdout(fs::File::create(&back).expect("a file"));
    finish(&mut command, b"").success();
    assert_eq!(digest(&file), digest(&back));
}

#[test]
fn a_terminal_has_its_size_and_follows_it() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key().installed("team");
    let config = client.config();
    let plain = ["-F", &config, "-tt", "web-1"];
    let ours = ops_ssh(&["web-1"]);
    for (program, args) in [("ssh", &plain[..]), (OPS, &ours)] {
        let mut terminal = client.terminal(program, args);
        terminal.wait_for("web-1:~$ ");
        terminal.ask("stty size", "24 80\r\n");
        terminal.resize(101, 33);
        // ssh hears of it by a signal, and may send what is typed first.
        let line = "until stty size | grep -qx '33 10''1'; do sleep 0.1; done; stty size";
        terminal.ask(line, "33 101\r\n");
        // Ctrl-C is for the far side, and what runs on in the background does not hold the login.
        let line = "sleep 1000 & echo $! > job; echo be''gun; wait";
        let from = terminal.ask(line, "begun\r\n");
        terminal.send("\x03");
        terminal.wait_for_after(from, "web-1:~$ ");
        terminal.send("exit 3\r");
        assert_eq!(terminal.wait(), Some(3), "{program}");
        assert!(terminal.is_cooked());
        let job = fs::read_to_string(client.state(WEB_1).join("home/job")).expect("its id");
        let job = job.trim().parse().ok().and_then(Pid::from_raw);
        kill_process(job.expect("an id"), Signal::KILL).expect("it runs on");
    }
    client.all_ended(2);
}

#[test]
fn the_escape_that_suspends_ssh_suspends_the_job() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key();
    let terminal = client.terminal("bash", &["--norc", "--noprofile", "-i"]);
    terminal.ask("PS1='lo''cal$ '", "local$ ");
    let line = format!("{OPS} {}", ops_ssh(&["web-1"]).join(" "));
    let from = terminal.ask(&line, "web-1:~$ ");
    terminal.send("~\x1a");
    let from = terminal.wait_for_after(from, "Stopped");
    terminal.wait_for_after(from, "local$ ");
    terminal.ask("fg", "\r\n");
    terminal.ask("echo ba''ck", "back\r\n");
    terminal.ask("exit", "local$ ");
    terminal.send("exit\r");
    client.all_ended(1);
}

#[test]
fn ctrl_c_and_a_closed_terminal_end_the_session_at_the_service() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key();
    let args = ops_ssh(&["web-1", "echo begun; sleep 1000"]);
    let mut terminal = client.terminal(OPS, &args);
    terminal.wait_for("begun");
    terminal.send("\x03");
    assert_eq!(terminal.wait(), Some(255));
    client.all_ended(1);
    let mut terminal = client.terminal(OPS, &args);
    terminal.wait_for("begun");
    terminal.hang_up();
    terminal.wait();
    client.all_ended(2);
    let mut terminal = client.terminal(OPS, &args);
    terminal.wait_for("begun");
    terminal.signal(Signal::TERM);
    terminal.wait();
    client.all_ended(3);
}

#[test]
fn local_forwards_lead_where_the_server_sees() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key().installed("team");
    let socket = client.home().join("db.sock");
    let forward = format!("{}:db-reporting:3306", socket.display());
    let config = client.config();
    let plain = ["-F", &config, "-N", "-L", &forward, "web-1"];
    let ours = ops_ssh(&["web-1", "-N", "-L", &forward]);
    for (program, args) in [("ssh", &plain[..]), (OPS, &ours)] {
        let _ = fs::remove_file(&socket);
        let mut child = client.command(program, args).spawn().expect("it starts");
        wait_until("it listens", || UnixStream::connect(&socket).is_ok());
        let mut stream = UnixStream::connect(&socket).expect("a connection");
        let mut greeting = [0; 64];
        let len = stream.read(&mut greeting).expect("a greeting");
        // Protocol 10, then the version of the server as text.
        assert_eq!(greeting[4], 10, "{:?}", &greeting[..len]);
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
        child.wait().expect("its end");
    }
}

#[test]
fn a_socks_server_and_a_remote_forward() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key().installed("team");
    let near = TcpListener::bind("127.0.0.1:0").expect("a port");
    let back = format!(
        "0:127.0.0.1:{}",
        near.local_addr().expect("an address").port()
    );
    let config = client.config();
    // OpenSSH cannot be asked to choose a port for -D; it ends where somebody else has it.
    let (port, mut child) = on_a_free_port(|port| {
        let port_text = port.to_string();
        let ends = "ExitOnForwardFailure=yes";
        let mut child = client
            .command(
                "ssh",
                [
                    "-F", &config, "-o", ends, "-N", "-D", &port_text, "-R", &back, "web-1",
                ],
            )
            .spawn()
            .expect("it starts");
        let mut has_ended = false;
        wait_until("it listens", || {
            has_ended = child.try_wait().expect("its state").is_some();
            has_ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        (!has_ended).then_some(child)
    });
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.write_all(&[5, 1, 0]).expect("a greeting");
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, [5, 0]);
    let mut request = vec![5, 1, 0, 3, 12];
    request.extend_from_slice(b"db-reporting\x0c\xea");
    stream.write_all(&request).expect("a request");
    let mut reply = [0; 10 + 5];
    stream
        .read_exact(&mut reply)
        .expect("a reply and a greeting");
    assert_eq!((reply[1], reply[14]), (0, 10), "{reply:?}");

    // "Allocated port N for remote forward to …", and what connects there on the server arrives
    // here.
    let mut told = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("its stderr"));
    let far = loop {
        std::io::BufRead::read_line(&mut stderr, &mut told).expect("its stderr");
        if let Some((_, rest)) = told.split_once("Allocated port ") {
            break rest
                .split(' ')
                .next()
                .and_then(|port| port.parse().ok())
                .expect("a port");
        }
    };
    let mut there = TcpStream::connect(("127.0.0.1", far)).expect("a connection");
    there.write_all(b"ping").expect("bytes are taken");
    let (mut here, _) = near.accept().expect("a connection");
    let mut got = [0; 4];
    here.read_exact(&mut got).expect("bytes");
    assert_eq!(&got, b"ping");
    child.kill().expect("it runs");
    child.wait().expect("its end");
    // Killed, ssh says nothing to anybody: the end of its pipes does.
    client.all_ended(1);
}

#[test]
fn git_clones_over_ssh() {
    needs!("ssh", "ssh-keygen", "git");
    let client = Client::with_key().installed("team");
    let repository = client.state(WEB_1).join("home/site.git");
    let git = |args: &[&str]| {
        let mut command = client.command(
            "git",
            [
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@example.org",
                "-c",
                "init.defaultBranch=main",
            ]
            .iter()
            .chain(args),
        );
        command.env("GIT_SSH_COMMAND", format!("ssh -F {}", client.config()));
        finish(&mut command, b"").success()
    };
    git(&["init", "-q", "work"]);
    client.write("work/index.html", "<p>a page</p>\n");
    git(&["-C", "work", "add", "."]);
    git(&["-C", "work", "commit", "-q", "-m", "a page"]);
    fs::create_dir_all(&repository).expect("a folder");
    git(&["init", "-q", "--bare", repository.to_str().expect("UTF-8")]);
    git(&["-C", "work", "push", "-q", "web-1:site.git", "main"]);
    git(&["clone", "-q", "web-1:site.git", "by-name"]);
    git(&[
        "clone",
        "-q",
        &format!("ssh://{WEB_1}{}", repository.display()),
        "by-id",
    ]);
    for copy in ["by-name", "by-id"] {
        assert_eq!(
            fs::read_to_string(client.home().join(copy).join("index.html")).expect("a file"),
            "<p>a page</p>\n"
        );
    }
}

#[test]
fn connections_are_shared_by_plain_ssh_and_ops_ssh_where_the_profile_says_so() {
    needs!("ssh", "ssh-keygen");
    let client = Client::new()
        .and_key("  control_master: true\n  options: { ControlPersist: \"yes\" }\n")
        .installed("team");
    client.ssh(["web-1", "true"]).success();
    client.ssh([WEB_1, "true"]).success();
    client.ops(ops_ssh(&["web-1", "true"])).success();
    assert_eq!(client.calls("StartSession"), 1);
    let said = client.ssh(["-O", "exit", "web-1"]).success();
    assert!(said.stderr.contains("Exit request sent"), "{said:?}");
    client.all_ended(1);
    client.ssh(["web-1", "true"]).success();
    assert_eq!(client.calls("StartSession"), 2);
    client.ssh(["-O", "exit", "web-1"]).success();
    client.all_ended(2);
}

#[test]
fn why_there_is_no_shared_connection_is_told_although_ssh_silences_its_proxy() {
    needs!("ssh", "ssh-keygen");
    let client = Client::new()
        .and_key("  control_master: true\n")
        .installed("team");
    client.service.set_faults("deny=ssm:StartSession");
    let said = client.ops(ops_ssh(&["web-1", "true"])).exits(255);
    assert!(said.stderr.contains("ops: OPS-E-DENIED: "), "{said:?}");
    // Without sharing it is told once.
    let said = client.ops(ops_ssh(&[
        "-S",
        "none",
        "-o",
        "ControlPersist=no",
        "web-1",
        "true",
    ]));
    assert_eq!(said.exits(255).stderr.matches("OPS-E-DENIED").count(), 1);
    let config = client.config();
    let args = ["-F", &config, "web-1", "true"];
    let mut terminal = client.terminal("ssh", &args);
    terminal.wait_for("ops: OPS-E-DENIED: ");
    assert_eq!(terminal.wait(), Some(255));
}

#[test]
fn a_guarded_profile_asks_once_and_says_how_plain_ssh_answers() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key();
    client.profile(
        "guarded",
        "extends: team\nguard: { protect: true }\nsession: { reason: required }\n",
    );
    let ours = [
        "-p", "guarded", "ssh", "-F", "none", "--yes", "--reason", "INC-1", "web-1", "uname",
    ];
    assert_eq!(client.ops(ours).success().stdout, "Linux\n");

    let client = client.installed("guarded");
    let said = client.ssh(["web-1", "true"]).exits(255);
    let line = said.stderr.lines().next().expect("a line");
    assert!(
        line.starts_with("ops: OPS-E-REFUSED: ") && line.contains("OPS_REASON=TEXT and OPS_YES=1"),
        "{said:?}"
    );
    let config = client.config();
    let mut command = client.command("ssh", ["-F", &config, "web-1", "uname"]);
    command.env("OPS_REASON", "INC-1").env("OPS_YES", "1");
    assert_eq!(finish(&mut command, b"").success().stdout, "Linux\n");
}

#[test]
fn without_ssh_it_says_how_to_get_one() {
    needs!("ssh", "ssh-keygen");
    let client = Client::with_key();
    let empty = client.home().join("empty");
    fs::create_dir(&empty).expect("a folder");
    let mut command = client.command(OPS, ops_ssh(&["web-1"]));
    command.env("PATH", &empty);
    let said = finish(&mut command, b"").exits(255);
    assert!(
        said.stderr.contains("no ssh client was found on PATH")
            && said.stderr.contains("apt install openssh-client"),
        "{said:?}"
    );
}
