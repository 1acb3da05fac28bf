//! Logs of sessions.

use std::{io::Write as _, process::Stdio};

use ops_tests::{service::Service, terminal::Terminal};

use crate::{OPS, ops};

/// A sandbox whose account has the preferences `session`.
fn service(session: &str) -> Service {
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = folder.path().join("fleet.yaml");
    let text = format!("{}\nsession: {{ {session} }}\n", ops_sandbox::DEFAULT_FLEET);
    std::fs::write(&fleet, text).expect("a fleet file");
    // It is read at the start, and not needed afterwards.
    Service::start_with(OPS, |options| options.fleet = Some(fleet.clone()))
}

/// A shell in which `typed` was typed; the id of its session.
fn past_session(service: &Service, typed: &str) -> String {
    let mut command = service.ops(&["shell", "web-1"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("ops starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(typed.as_bytes()).expect("typed");
    drop(stdin);
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{output:?}");
    let list = ops(service, &["sessions", "--history", "-o", "name"]).succeeds();
    list.stdout.lines().next().expect("a session").to_owned()
}

#[test]
fn a_log_comes_from_where_the_account_keeps_it() {
    for session in [
        "cloud_watch_log_group_name: /ops/sessions",
        "cloud_watch_log_group_name: /ops/sessions, cloud_watch_streaming: true",
        "s3_bucket_name: ops-sandbox-copies, s3_key_prefix: logs/ssm/",
        // A group that gets nothing, and a bucket that does, cannot be told from outside.
        "s3_bucket_name: ops-sandbox-copies",
    ] {
        let service = service(session);
        let id = past_session(&service, "echo logged:$((40+2))\nexit\n");
        let done = ops(&service, &["sessions", "log", &id]).succeeds();
        assert!(
            done.stdout.contains("logged:42"),
            "{session}: {}",
            done.stdout
        );
        assert_eq!(done.stderr, "", "{session}");
    }
}

#[test]
fn without_a_log_it_is_told_which_setting_is_missing() {
    let service = Service::start(OPS, "");
    let id = past_session(&service, "exit\n");
    ops(&service, &["sessions", "log", &id]).fails(
        3,
        &[
            "no log is kept",
            "SSM-SessionManagerRunShell",
            "cloudWatchLogGroupName",
            "s3BucketName",
            "Preferences",
        ],
    );
    ops(&service, &["sessions", "log", "alice-0a1b2c3d4e5f60718"])
        .fails(3, &["there is no session", "30 days"]);
    service.set_faults("deny=ssm:GetDocument");
    ops(&service, &["sessions", "log", &id]).fails(5, &["ssm:GetDocument"]);
}

#[test]
fn a_log_that_may_not_be_read_is_told_with_the_statement() {
    let service = service("cloud_watch_log_group_name: /ops/sessions");
    let id = past_session(&service, "exit\n");
    service.set_faults("deny=logs:GetLogEvents");
    ops(&service, &["sessions", "log", &id]).fails(5, &["logs:GetLogEvents", "LogsOfSessions"]);
    // A tunnel has none, wherever the account keeps them.
    service.set_faults("");
    let done = ops(&service, &["wait", "web-1", "--for", "session"]).succeeds();
    drop(done);
    let mut ssh = service.ops(&["ssh-proxy", "web-1", "22"]);
    assert!(ssh.output().expect("ops runs").status.success());
    let list = [
        "sessions",
        "--history",
        "--document",
        "AWS-StartSSHSession",
        "-o",
        "name",
    ];
    let tunnel = ops(&service, &list).succeeds().stdout;
    ops(&service, &["sessions", "log", tunnel.trim()]).fails(3, &["it is a tunnel"]);
}

#[test]
fn a_log_that_is_longer_than_the_screen_goes_through_the_pager() {
    let service = service("cloud_watch_log_group_name: /ops/sessions");
    let id = past_session(&service, "seq 100 150\nexit\n");
    let mut terminal = Terminal::start_with(&service, &["sessions", "log", &id], |command| {
        command.env_remove("CI").env("OPS_PAGER", "sed s/^/paged:/")
    });
    assert_eq!(terminal.wait(), Some(0));
    let shown = String::from_utf8_lossy(&terminal.output()).into_owned();
    assert!(shown.contains("paged:150"), "{shown}");
}
