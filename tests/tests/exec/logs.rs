//! `ops logs`: files of one server and of many.

use std::io::{BufRead as _, BufReader, Write as _};

use ops_tests::Lab;
use rustix::process::{Pid, Signal, kill_process};

use super::status_of;

#[test]
fn the_last_lines_of_a_file_and_those_that_match() {
    let lab = Lab::with_sandbox();
    let text: String = (1..=20).map(|number| format!("line {number}\n")).collect();
    let file = lab.write("app.log", text);
    let file = file.to_str().unwrap();
    let done = lab.ops(["logs", "web-1", file]).output().success();
    assert_eq!(done.stdout.lines().count(), 10, "{done}");
    assert!(done.stdout.ends_with("line 19\nline 20\n"), "{done}");
    let done = lab
        .ops([
            "logs", "web-1", "web-2", file, "--tail", "20", "--grep", "1[0-2]$",
        ])
        .output()
        .success();
    let mut lines: Vec<&str> = done.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "web-1: line 10",
            "web-1: line 11",
            "web-1: line 12",
            "web-2: line 10",
            "web-2: line 11",
            "web-2: line 12",
        ]
    );
    assert_eq!(done.stderr, "");
}

#[test]
fn names_of_the_profile_stand_for_files() {
    let lab = Lab::with_sandbox();
    let file = lab.write("named.log", "from a name\n");
    lab.profile("p", &format!("logs: {{ app: {} }}\n", file.display()));
    let done = lab
        .ops(["-p", "p", "logs", "web-1", "app"])
        .output()
        .success();
    assert_eq!(done.stdout, "from a name\n");
    lab.profile("p", "logs: { app: relative/path }\n");
    let done = lab
        .ops(["-p", "p", "logs", "web-1", "app"])
        .output()
        .exits(2);
    assert!(done.stderr.contains("neither a file nor a unit"), "{done}");
}

#[test]
fn a_file_that_is_not_there_is_a_failure_of_that_server_alone() {
    let lab = Lab::with_sandbox();
    let done = lab
        .ops(["logs", "web-1", "web-2", "/nosuch/file"])
        .output()
        .exits(8);
    assert!(done.stderr.contains("web-2: exit status 1"), "{done}");
    assert!(!done.stderr.contains("succeeded"), "{done}");
    let done = lab.ops(["logs", "web-1"]).output().exits(2);
    assert!(done.stderr.contains("no file and no unit"), "{done}");
}

/// Through a rotation and until Ctrl-C.
#[test]
fn a_followed_file_goes_on_through_a_rotation_and_ends_quietly() {
    let lab = Lab::with_sandbox();
    let file = lab.write("app.log", "before\n");
    let mut child = lab
        .ops(["logs", "-f", "web-1", file.to_str().unwrap()])
        .spawn();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "before");
    let append = |text: &str| {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&file)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    };
    append("added\n");
    assert_eq!(next(), "added");
    std::fs::rename(&file, file.with_extension("1")).unwrap();
    append("after the rotation\n");
    assert_eq!(next(), "after the rotation");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(status_of(&mut child), Some(130));
}
