//! A server that nobody here wrote: OpenSSH's own.

use std::{
    fs,
    net::TcpListener,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use ops_test_needs::needs;
use ops_tests::service::Service;
use tempfile::TempDir;

use crate::scene::{
    fail, no_sessions, plant, run, same_trees, service, succeed, text, write_profile,
};

/// Answers connections with one `sshd` each, as inetd would, so that there is no port to choose and
/// no daemon to stop.
fn serve_sshd(sshd: PathBuf, config: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (input, output) = (stream.try_clone().unwrap(), stream);
            let child = Command::new(&sshd)
                .args(["-i", "-e", "-f", text(&config)])
                .stdin(OwnedFd::from(input))
                .stdout(OwnedFd::from(output))
                .stderr(Stdio::null())
                .spawn();
            std::thread::spawn(move || child.unwrap().wait());
        }
    });
    port
}

/// A machine called `usual` with that server on port 22, and a folder for the test.
struct Usual {
    service: Service,
    folder: TempDir,
}

impl Usual {
    /// Starts it with more lines of `sshd_config`.
    fn start(lines: &str) -> Self {
        let sshd = ops_test_needs::find("sshd").expect("sshd");
        let usual = Self {
            service: service("", ""),
            folder: tempfile::tempdir().unwrap(),
        };
        for name in ["host", "login"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", ""])
                .args(["-f", text(&usual.file(name))])
                .status()
                .unwrap();
            assert!(made.success());
        }
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n{lines}\n",
            text(&usual.file("host")),
            text(&usual.file("login.pub"))
        );
        fs::write(usual.file("sshd_config"), config).unwrap();
        let port = serve_sshd(sshd, usual.file("sshd_config"));
        usual.service.change_instance(
            "",
            &format!(r#"{{"name": "usual", "ports": {{"22": "127.0.0.1:{port}"}}}}"#),
        );
        let me = Command::new("id").arg("-un").output().unwrap().stdout;
        let me = String::from_utf8(me).unwrap();
        let profile = format!(
            "ssh: {{ user: {}, identity_file: {} }}\n",
            me.trim(),
            text(&usual.file("login"))
        );
        write_profile(&usual.service, &profile);
        usual
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The place of a file on the machine.
    fn remote(&self, name: &str) -> String {
        format!("usual:{}", self.file(name).display())
    }

    fn copy(&self, args: &[&str]) -> Output {
        let all: Vec<&str> = ["--via", "sftp"].iter().chain(args).copied().collect();
        run(&self.service, &all)
    }

    /// Copies a tree there and back; gives what was said.
    fn there_and_back(&self) -> [String; 2] {
        let (here, there, back) = (self.file("here"), self.file("there"), self.file("back"));
        fs::create_dir(&here).unwrap();
        plant(&here);
        let stored = self.copy(&["-rp", text(&here), &self.remote("there")]);
        succeed(&stored);
        same_trees(&here, &there);
        let fetched = self.copy(&["-rp", &self.remote("there"), text(&back)]);
        succeed(&fetched);
        same_trees(&here, &back);
        no_sessions(&self.service);
        [stored, fetched].map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn a_tree_goes_there_and_back_by_the_usual_sshd() {
    needs!("sshd", "ssh-keygen");
    let usual = Usual::start("");
    usual.there_and_back();
    // It cannot be written, with the words of this server.
    let output = usual.copy(&[text(&usual.file("login")), "usual:/proc/none"]);
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    no_sessions(&usual.service);
}

#[test]
fn a_tree_goes_there_and_back_where_the_server_starts_no_commands() {
    needs!("sshd", "ssh-keygen");
    let usual = Usual::start("ForceCommand internal-sftp");
    for said in usual.there_and_back() {
        assert_eq!(said.matches("is read back").count(), 1, "{said}");
    }
}

#[test]
fn what_a_server_without_commands_stores_wrongly_is_found_out() {
    needs!("sshd", "ssh-keygen", "/usr/lib/openssh/sftp-server");
    let server = Path::new("/usr/lib/openssh/sftp-server");
    // A byte of the content that is in no request for anything else arrives as another.
    let spoil = "stdbuf -i0 -o0 tr '\\356' '\\357'";
    let lines = format!("ForceCommand {spoil} | {}", server.display());
    let usual = Usual::start(&lines);
    let there = usual.file("there");
    fs::create_dir(&there).unwrap();
    for (content, arrives) in [(&b"good"[..], true), (b"b\xeed", false)] {
        fs::write(usual.file("x"), content).unwrap();
        let output = usual.copy(&[text(&usual.file("x")), &usual.remote("there/x")]);
        if arrives {
            succeed(&output);
        } else {
            fail(&output, 8, &["did not arrive as it was sent"]);
        }
        assert_eq!(fs::read(there.join("x")).unwrap(), b"good");
        assert_eq!(fs::read_dir(&there).unwrap().count(), 1);
    }
}
