//! Sessions that end in the middle: the service or somebody else terminates them, so that nothing
//! can be resumed.

use std::{fs, path::Path};

use ops_tests::service::Service;

use crate::scene::{
    CONNECT, fail, no_sessions, noise, plant, remote, run, same_trees, service, succeed, text,
};

/// How often a copy that was told to say so has connected again.
fn connected_again(output: &std::process::Output) -> usize {
    let said = String::from_utf8_lossy(&output.stderr);
    said.matches("connecting again").count()
}

/// Copies and demands that sessions were lost meanwhile.
#[track_caller]
fn copy_over_lost_sessions(service: &Service, sessions: &str, from: &str, to: &str) {
    let args = [
        "-v",
        "--via",
        "sftp",
        "--sessions",
        sessions,
        "-rp",
        from,
        to,
    ];
    let output = run(service, &args);
    succeed(&output);
    assert!(connected_again(&output) > 0, "no session was lost");
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn a_large_file_goes_on_from_where_it_was_when_its_session_ended() {
    let service = service("end-after=3000", CONNECT);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["here", "there", "back"] {
        fs::create_dir(path(name)).unwrap();
    }
    let content = noise(4_000_001);
    fs::write(path("here/x"), &content).unwrap();
    for sessions in ["1", "2"] {
        copy_over_lost_sessions(
            &service,
            sessions,
            text(&path("here/x")),
            &remote(&path("there/x")),
        );
        assert!(fs::read(path("there/x")).unwrap() == content);
        fs::write(path("here/x"), &content).unwrap();
    }
    service.set_faults("end-after=3000");
    for sessions in ["1", "2"] {
        copy_over_lost_sessions(
            &service,
            sessions,
            &remote(&path("there/x")),
            text(&path("back/x")),
        );
        assert!(fs::read(path("back/x")).unwrap() == content);
    }
    // What cannot be begun again goes on, too.
    let from = remote(&path("there/x"));
    let printed = run(&service, &["-v", "--via", "sftp", &from, "-"]);
    succeed(&printed);
    assert!(connected_again(&printed) > 0 && printed.stdout == content);
    let to = remote(&path("there/y"));
    let sent = service
        .ops(&["cp", "--profile", "t", "-v", "--via", "sftp", "-", &to])
        .stdin(fs::File::open(path("here/x")).unwrap())
        .output()
        .unwrap();
    succeed(&sent);
    assert!(connected_again(&sent) > 0 && fs::read(path("there/y")).unwrap() == content);
    assert_eq!(names(&path("back")), ["x"]);
    assert_eq!(names(&path("there")).len(), 2);
    no_sessions(&service);
}

#[test]
fn many_files_go_on_when_their_session_ends() {
    let service = service("end-after=1500", CONNECT);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("here")).unwrap();
    plant(&path("here"));
    copy_over_lost_sessions(&service, "4", text(&path("here")), &remote(&path("there")));
    same_trees(&path("here"), &path("there"));
    service.set_faults("end-after=1500");
    copy_over_lost_sessions(&service, "4", &remote(&path("there")), text(&path("back")));
    same_trees(&path("here"), &path("back"));
    no_sessions(&service);
}

#[test]
fn a_server_whose_sessions_end_at_once_is_given_up() {
    let service = service("", CONNECT);
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    fs::write(&there, noise(1_000_000)).unwrap();
    // After the login, and before anything is done.
    service.set_faults("end-after=60");
    let here = folder.path().join("here");
    let output = run(
        &service,
        &["-v", "--via", "sftp", &remote(&there), text(&here)],
    );
    fail(&output, 7, &[]);
    assert_eq!(names(folder.path()), ["there"]);
}
