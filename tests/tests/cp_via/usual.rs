//! A server that nobody here wrote: OpenSSH's own.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::scene::{no_sessions, plant, run, same_trees, service, succeed, text, write_profile};

/// The usual server, where it is installed.
fn sshd() -> Option<PathBuf> {
    let named = std::env::var_os("OPS_TEST_SSHD").map(PathBuf::from);
    let path = named.unwrap_or_else(|| "/usr/sbin/sshd".into());
    path.is_file().then_some(path)
}

/// Answers connections with one `sshd` each, as inetd would, so that there is no port to choose and no daemon to stop.
fn serve_sshd(sshd: PathBuf, config: PathBuf) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (input, output) = (stream.try_clone().unwrap(), stream);
            let child = Command::new(&sshd)
                .args(["-i", "-e", "-f", text(&config)])
                .stdin(std::os::fd::OwnedFd::from(input))
                .stdout(std::os::fd::OwnedFd::from(output))
                .stderr(Stdio::null())
                .spawn();
            std::thread::spawn(move || child.unwrap().wait());
        }
    });
    port
}

#[test]
fn a_tree_goes_there_and_back_by_the_usual_sshd() {
    let Some(sshd) = sshd() else {
        println!("there is no sshd here");
        return;
    };
    let service = service("", "");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for name in ["host", "login"] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f", text(&file(name))])
            .status()
            .unwrap();
        assert!(made.success());
    }
    let config = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n",
        text(&file("host")),
        text(&file("login.pub"))
    );
    fs::write(file("sshd_config"), config).unwrap();
    let port = serve_sshd(sshd, file("sshd_config"));
    service.change_instance(
        "",
        &format!(r#"{{"name": "usual", "ports": {{"22": "127.0.0.1:{port}"}}}}"#),
    );
    let me = Command::new("id").arg("-un").output().unwrap().stdout;
    let me = String::from_utf8(me).unwrap();
    let profile = format!(
        "ssh: {{ user: {}, identity_file: {} }}\n",
        me.trim(),
        text(&file("login"))
    );
    write_profile(&service, &profile);
    let (here, there, back) = (file("here"), file("there"), file("back"));
    fs::create_dir(&here).unwrap();
    plant(&here);
    let remote = format!("usual:{}", there.display());
    succeed(&run(
        &service,
        &["--via", "sftp", "-rp", text(&here), &remote],
    ));
    same_trees(&here, &there);
    succeed(&run(
        &service,
        &["--via", "sftp", "-rp", &remote, text(&back)],
    ));
    same_trees(&here, &back);
    // It cannot be written, with the words of this server.
    let output = run(
        &service,
        &["--via", "sftp", text(&file("login")), "usual:/proc/none"],
    );
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    no_sessions(&service);
}
