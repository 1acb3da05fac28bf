//! Servers that are not as most are: without a place to write, with Windows, with users to become.

use std::io::Read as _;

use ops_test_needs::{needs, needs_root};
use ops_tests::Lab;
use rustix::process::{Pid, Signal, kill_process};

use super::{eventually, is_sleeping, odd_seconds, status_of};

/// A sandbox whose machines find these programs before all others.
fn lab_with_programs(programs: &[(&str, &str)], options: &[&str]) -> Lab {
    let lab = Lab::new();
    for (name, text) in programs {
        lab.write_program(&format!("programs/{name}"), text);
    }
    let folder = lab.home().join("programs");
    let path = format!(
        "{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        folder.display()
    );
    lab.env("PATH", path).serve(options.iter().copied())
}

#[test]
fn without_a_place_to_write_a_command_runs_and_is_never_cut_short_with_a_success() {
    let lab = lab_with_programs(&[("mkdir", "#!/bin/sh\nexit 1\n")], &[]);
    let done = lab
        .ops(["exec", "web-1", "--shell", "echo out; echo err >&2; exit 7"])
        .output();
    assert_eq!((done.status, &*done.stdout), (7, "out\n"), "{done}");
    assert!(
        done.stderr.contains("nothing can be written on `web-1`"),
        "{done}"
    );
    assert!(done.stderr.ends_with("err\n"), "{done}");
    // What cannot be had without one is said, and nothing is run.
    let done = lab
        .ops(["exec", "web-1", "--", "cat"])
        .stdin("input")
        .output();
    assert_eq!((done.status, &*done.stdout), (255, ""), "{done}");
    assert!(done.stderr.starts_with("ops: OPS-E-"), "{done}");
    assert!(
        done.stderr.contains("nothing can be written on the server"),
        "{done}"
    );
    // A session that is lost takes the command with it.
    lab.ops(["sandbox", "fault", "cut-after=200"])
        .output()
        .success();
    let done = lab
        .ops(["exec", "web-1", "--shell", "head -c 1000000 /dev/zero"])
        .output();
    assert_eq!(done.status, 255, "{}", done.stderr);
    assert!(done.stderr.contains("was cut off"), "{}", done.stderr);
    // One that is lost before it has said a word may have run: nobody can tell.
    lab.ops(["sandbox", "fault", "end-after=6,first=1"])
        .output()
        .success();
    let done = lab.ops(["exec", "web-1", "--", "true"]).output();
    assert!([0, 255].contains(&done.status), "{done}");
    if done.status == 255 {
        assert!(done.stderr.contains("OPS-E-"), "{done}");
    }
}

#[test]
fn a_document_that_is_denied_and_an_agent_that_is_too_old_are_said() {
    let lab = Lab::with_sandbox();
    let deny = "deny=ssm:StartSession/AWS-StartNonInteractiveCommand";
    lab.ops(["sandbox", "fault", deny]).output().success();
    let done = lab.ops(["exec", "web-1", "--", "true"]).output();
    assert_eq!((done.status, &*done.stdout), (255, ""), "{done}");
    assert!(done.stderr.starts_with("ops: OPS-E-DENIED: "), "{done}");
    assert!(
        done.stderr.contains("AWS-StartNonInteractiveCommand"),
        "{done}"
    );
    // Too old to separate output: by a terminal, with the status all the same.
    lab.ops(["sandbox", "fault", "agent-version=3.1.1188.0"])
        .output()
        .success();
    let line = "echo out; echo err >&2; exit 7";
    let done = lab.ops(["exec", "-v", "web-1", "--shell", line]).output();
    assert_eq!((done.status, &*done.stdout), (7, "out\n"), "{done}");
    assert!(
        done.stderr.contains("everything goes by a terminal"),
        "{done}"
    );
    // Older than commands without a terminal.
    lab.ops(["sandbox", "fault", "agent-version=3.0.196.0"])
        .output()
        .success();
    let done = lab.ops(["exec", "web-1", "--shell", line]).output();
    assert_eq!((done.status, &*done.stdout), (255, ""), "{done}");
    assert!(
        done.stderr.contains("is too old for this session"),
        "{done}"
    );
    assert!(done.stderr.contains("AWS-UpdateSSMAgent"), "{done}");
}

const WINDOWS: &str = "\
region: eu-west-1
account: \"123456789012\"
documents:
  Joined: { type: NonInteractiveCommands, command: \"{{ command }}\", parameters: { command: null } }
instances:
  - { name: win-1, id: i-0a1b2c3d4e5f60718, platform: windows }
";

/// In the place of PowerShell: what the script for it would write of a program that prints `out`
/// and `err` and exits with the status that is its last argument here.
const POWERSHELL: &str = r#"#!/bin/sh
for last; do :; done
printf %s "$last" | base64 -d | iconv -f UTF-16LE -t UTF-8 >"$HOME/script"
code=$(sed -n 's/^\$arguments = "\(.*\)"$/\1/p' "$HOME/script" | base64 -d)
printf '!windows\n!running\n%s\n' "$(printf 'out\r\n' | base64)"
printf '!x %s\n' "$(printf 'err\r\n' | base64)" >&2
printf '!over %s\n' "$code" >&2
printf '!over %s\n' "$code"
"#;

#[test]
fn a_windows_server_is_spoken_to_in_powershell_and_what_it_cannot_do_is_said() {
    needs!("iconv");
    let fleet = |lab: &Lab| lab.write("fleet.yaml", WINDOWS);
    let lab = Lab::new();
    let path = fleet(&lab);
    let lab = lab.serve(["--fleet", path.to_str().unwrap()]);
    // No PowerShell here.
    let done = lab.ops(["exec", "win-1", "--", "hostname"]).output();
    assert_eq!((done.status, &*done.stdout), (255, ""), "{done}");
    assert!(done.stderr.contains("powershell"), "{done}");
    for (words, why) in [
        (&["exec", "--env", "A=1", "win-1", "set"][..], "variables"),
        (&["exec", "me@win-1", "whoami"], "no other user"),
        (&["exec", "--detach", "win-1", "whoami"], "left running"),
    ] {
        let done = lab.ops(words).output();
        assert_eq!(done.status, 255, "{done}");
        assert!(done.stderr.starts_with("ops: OPS-E-USAGE: "), "{done}");
        assert!(done.stderr.contains(why), "{done}");
    }
    let done = lab.ops(["exec", "win-1", "more"]).stdin("input").output();
    assert!(done.stderr.contains("give -n"), "{done}");
    let lab = Lab::new();
    let fleet = fleet(&lab);
    let program = lab.write_program("programs/powershell", POWERSHELL);
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let lab = lab
        .env("PATH", path)
        .serve(["--fleet", fleet.to_str().unwrap()]);
    for (told, status, is_noted) in [("7", 7, false), ("300", 255, true), ("0", 0, false)] {
        let done = lab.ops(["exec", "win-1", "--", "tool.exe", told]).output();
        assert_eq!((done.status, &*done.stdout), (status, "out\r\n"), "{done}");
        assert!(done.stderr.contains("err\r\n"), "{done}");
        assert!(done.stderr.contains("runs Windows"), "{done}");
        assert_eq!(
            done.stderr.contains("its exit status is 300"),
            is_noted,
            "{done}"
        );
    }
    // A document whose output is joined: all of it comes when the command has ended.
    let done = lab
        .ops([
            "exec",
            "--document",
            "Joined",
            "win-1",
            "--",
            "tool.exe",
            "3",
        ])
        .output();
    assert_eq!((done.status, &*done.stdout), (3, "out\r\n"), "{done}");
    assert!(done.stderr.contains("err\r\n"), "{done}");
}

#[test]
fn another_user_is_become_by_sudo_and_nothing_of_the_command_is_left() {
    needs!("sudo");
    needs_root!();
    let lab = Lab::with_sandbox();
    let done = lab
        .ops([
            "exec",
            "nobody@web-1",
            "--env",
            "A=it's",
            "--shell",
            "id -un; echo \"$A\"; cat; exit 3",
        ])
        .stdin("in\n")
        .output();
    assert_eq!(
        (done.status, &*done.stdout),
        (3, "nobody\nit's\nin\n"),
        "{done}"
    );
    let done = lab
        .ops(["exec", "--user", "nosuch-user", "web-1", "id"])
        .output();
    assert_eq!((done.status, &*done.stdout), (255, ""), "{done}");
    assert!(
        done.stderr
            .starts_with("ops: OPS-E-DENIED: the session on `web-1` may not become `nosuch-user`"),
        "{done}"
    );
    let seconds = odd_seconds();
    let line = format!("echo up; sleep {seconds}");
    let words = ["exec", "--user", "nobody", "web-1", "-n", "--shell", &line];
    let mut child = lab.ops(words).spawn();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    eventually("the command runs", || is_sleeping(&seconds));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(status_of(&mut child), Some(130));
    eventually("the command has ended", || !is_sleeping(&seconds));
}

#[test]
fn a_user_whom_nobody_may_become_is_a_clear_error() {
    needs!("sudo", "setpriv");
    needs_root!();
    // As on a server whose session user stands in no sudoers file.
    let sudo = ops_test_needs::find("sudo").unwrap();
    let text = format!(
        "#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups {} \"$@\"\n",
        sudo.display()
    );
    let lab = lab_with_programs(&[("sudo", &text)], &[]);
    for words in [
        &["exec", "--user", "root", "web-1", "-n", "id"][..],
        &[
            "exec", "--user", "root", "--env", "A=1", "web-1", "-n", "id",
        ],
    ] {
        let done = lab.ops(words).output();
        assert_eq!((done.status, &*done.stdout), (255, ""), "{done}");
        assert!(
            done.stderr
                .starts_with("ops: OPS-E-DENIED: the session on `web-1` may not become `root`"),
            "{done}"
        );
        assert!(done.stderr.contains("/etc/sudoers.d"), "{done}");
        assert_eq!(done.stderr.lines().count(), 1, "{done}");
    }
}
