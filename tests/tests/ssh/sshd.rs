//! A server that nobody here wrote: OpenSSH's own, behind a session on port 22.

use std::{
    fs,
    net::TcpListener,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use ops_test_needs::needs;

use crate::client::{Client, OPS, WEB_1, digest, pattern, small_files, text};

/// Starts one `sshd -i` for each connection, so that no port has to be chosen beforehand.
fn serve(folder: &Path) -> u16 {
    let sshd = ops_test_needs::find("sshd").expect("sshd");
    // Where packages keep it; sshd insists on it as root.
    let _ = fs::create_dir_all("/run/sshd");
    let key = folder.join("host_key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", text(&key)])
        .status()
        .expect("ssh-keygen runs");
    assert!(made.success());
    let config = folder.join("sshd_config");
    let lines = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
         PidFile none\nSubsystem sftp internal-sftp\nLogLevel ERROR\n",
        key.display(),
        folder.join("authorized").display()
    );
    fs::write(&config, lines).expect("a file");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let input = OwnedFd::from(stream.try_clone().expect("a clone"));
            let mut child = Command::new(&sshd)
                .args(["-i", "-f", text(&config)])
                .stdin(input)
                .stdout(OwnedFd::from(stream))
                .stderr(Stdio::null())
                .spawn()
                .expect("sshd starts");
            thread::spawn(move || child.wait());
        }
    });
    port
}

#[test]
fn the_real_sshd_behind_a_session() {
    needs!("sshd", "ssh", "ssh-keygen", "rsync", "scp");
    let folder = tempfile::tempdir().expect("a folder");
    let port = serve(folder.path());
    let fleet = folder.path().join("fleet.yaml");
    fs::write(
        &fleet,
        format!("instances:\n  - {{ name: web-1, id: {WEB_1}, ports: {{ 22: \"127.0.0.1:{port}\" }} }}\n"),
    )
    .expect("a file");
    let client = Client::with(|options| options.fleet = Some(fleet)).and_key("");
    let user = client.run("id", ["-un"]).stdout.trim().to_owned();
    let profile = client.home().join(".config/ops/profiles/team.yaml");
    let yaml = fs::read_to_string(&profile).expect("a profile");
    fs::write(&profile, yaml.replace("ec2-user", &user)).expect("a file");
    fs::copy(
        client.home().join("id.pub"),
        folder.path().join("authorized"),
    )
    .expect("a copy");
    let client = client.installed("team");
    let config = client.config();

    assert_eq!(client.ssh(["web-1", "uname"]).success().stdout, "Linux\n");
    let ours = ["-p", "team", "ssh", "-F", "none", WEB_1, "exit 7"];
    client.ops(ours).exits(7);

    let here = client.home().join("here");
    small_files(&here.join("small"), 2000);
    fs::write(here.join("large"), pattern(5, 64 << 20)).expect("a file");
    let there = folder.path().join("there");
    fs::create_dir(&there).expect("a folder");
    let shell = format!("ssh -F {config}");
    let to = format!("web-1:{}/", there.display());
    client
        .run("rsync", ["-a", "-e", &shell, text(&here), &to])
        .success();
    assert_eq!(digest(&here), digest(&there.join("here")));
    let back = client.home().join("back");
    fs::create_dir(&back).expect("a folder");
    let from = |name: &str| format!("{WEB_1}:{}/here/{name}", there.display());
    client
        .run("rsync", ["-a", "-e", &shell, &from("small"), text(&back)])
        .success();
    client
        .run("scp", ["-q", "-F", &config, &from("large"), text(&back)])
        .success();
    assert_eq!(digest(&here), digest(&back));

    // uname, exit 7, rsync twice, scp.
    client.all_ended(5);
    if !gives_terminals() {
        return;
    }
    let args = ["-p", "team", "ssh", "-F", "none", "web-1", "-tt", "sh -i"];
    let mut terminal = client.terminal(OPS, &args);
    terminal.ask("stty size", "24 80");
    terminal.resize(101, 33);
    let line = "until stty size | grep -qx '33 10''1'; do sleep 0.1; done; stty size";
    terminal.ask(line, "33 101\r\n");
    terminal.send("exit 3\r");
    assert_eq!(terminal.wait(), Some(3));
    client.all_ended(6);
}

/// Without root sshd cannot give a terminal to the group that it insists on; it need not where the
/// system does so, as most do and containers may not.
fn gives_terminals() -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut devpts = mounts.lines().filter(|line| line.starts_with("devpts "));
    rustix::process::geteuid().is_root() || devpts.all(|line| line.contains("gid="))
}
