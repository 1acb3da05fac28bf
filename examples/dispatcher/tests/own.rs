//! The binary of one's own, run as a user would.

use std::{path::Path, process::Command};

fn team_ops(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_team-ops"))
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/bin:/bin")
        .output()
        .expect("the binary");
    (
        done.status.code(),
        String::from_utf8_lossy(&done.stdout).into_owned(),
        String::from_utf8_lossy(&done.stderr).into_owned(),
    )
}

#[test]
fn a_command_of_ones_own_stands_beside_the_others() {
    let home = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| team_ops(home.path(), arguments);

    assert_eq!(
        run(&["--sandbox", "owner", "web-1"]),
        (Some(0), "web\n".to_owned(), String::new())
    );
    let (_, help, _) = run(&["-h"]);
    let (own, program) = (help.find("Our own:"), help.find("This program:"));
    assert!(own.is_some() && own < program, "{help}");
    let (_, page, _) = run(&["owner", "-h"]);
    assert!(page.starts_with("Examples:\n  ops owner web-1"), "{page}");
    let (status, _, why) = run(&["--sandbox", "owner", "nosuch"]);
    assert_eq!(status, Some(3), "{why}");

    // Rules of profiles hold for it as for any other.
    let profiles = home.path().join(".config/ops/profiles");
    std::fs::create_dir_all(&profiles).expect("a folder");
    std::fs::write(profiles.join("strict.yaml"), "guard: {deny: [owner]}\n").expect("a profile");
    let (status, _, why) = run(&["--sandbox", "-p", "strict", "owner", "web-1"]);
    assert_eq!(status, Some(9), "{why}");
}
