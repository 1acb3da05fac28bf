//! Files by SFTP.

use std::{fs, os::unix::fs::symlink, process::Stdio};

use crate::scene::{
    CONNECT, WEB_1, back, fail, no_sessions, noise, remote, run, says, service, succeed, text,
    there, there_and_back,
};

#[test]
fn a_tree_goes_there_and_back_by_sftp() {
    let service = service("", CONNECT);
    there_and_back(&service, "sftp");
}

const BAD_NETWORK: &str = "seed=7,drop=1%,duplicate=1%,reorder=1%,cut-after=400";

#[test]
fn a_tree_goes_to_a_server_by_sftp_while_the_network_is_bad() {
    there(&service(BAD_NETWORK, CONNECT), "sftp");
}

#[test]
fn a_tree_comes_from_a_server_by_sftp_while_the_network_is_bad() {
    back(&service(BAD_NETWORK, CONNECT), "sftp");
}

#[test]
fn files_arrive_by_sftp_although_the_agent_is_gone_for_ten_seconds() {
    let service = service("silent-after=1450,silent-for=11s", CONNECT);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Down it is near its end by then: of what is lost an agent sends ten messages again in a
    // second.
    for (name, len) in [("up", 3_000_001), ("down", 800_000)] {
        fs::write(path(name), noise(len)).unwrap();
    }
    let (up, down) = (path("up"), path("down-here"));
    let silent = "web-1: the agent has not answered for";
    let pairs = [
        (text(&up).to_owned(), remote(&path("up-there")), silent),
        // Nothing is owed to whoever only waits: after ten seconds it is told how far the copy has
        // come.
        (
            remote(&path("down")),
            text(&down).to_owned(),
            " of 781.25 KiB copied",
        ),
    ];
    // Both at a time: each waits.
    std::thread::scope(|scope| {
        for (from, to, told) in &pairs {
            let args = ["--via", "sftp", "--sessions", "1", "-p", from, to];
            let service = &service;
            scope.spawn(move || {
                let output = run(service, &args);
                succeed(&output);
                says(&output, told);
            });
        }
    });
    for (one, other) in [("up", "up-there"), ("down", "down-here")] {
        assert!(fs::read(path(one)).unwrap() == fs::read(path(other)).unwrap());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    no_sessions(&service);
}

#[test]
fn streams_and_patterns_go_by_sftp() {
    let service = service("", CONNECT);
    let folder = tempfile::tempdir().unwrap();
    let content = noise(2_000_000);
    fs::write(folder.path().join("a 1.gz"), &content).unwrap();
    fs::write(folder.path().join(".hidden.gz"), "").unwrap();
    symlink(".", folder.path().join("around")).unwrap();
    symlink("a 1.gz", folder.path().join("b")).unwrap();
    let followed = run(
        &service,
        &[
            "--via",
            "sftp",
            "-rL",
            &remote(folder.path()),
            text(&folder.path().join("all")),
        ],
    );
    fail(&followed, 8, &["leads back"]);
    assert!(fs::read(folder.path().join("all/b")).unwrap() == content);
    let pattern = remote(&folder.path().join("a*[0-9].gz"));
    let printed = run(&service, &["--via", "sftp", &pattern, "-"]);
    succeed(&printed);
    assert!(printed.stdout == content);

    let mut child = service
        .ops(&["cp", "--profile", "t", "--via", "sftp", "-", "web-1:in/it"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let home = service
        .home()
        .join(format!("sandbox/instances/{WEB_1}/home"));
    fs::create_dir_all(home.join("in")).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, &content).unwrap();
    drop(stdin);
    succeed(&child.wait_with_output().unwrap());
    assert!(fs::read(home.join("in/it")).unwrap() == content);
}

#[test]
fn a_file_that_was_begun_is_gone_on_with_by_sftp_if_it_is_the_same() {
    let service = service("", CONNECT);
    let folder = tempfile::tempdir().unwrap();
    let content = noise(2_500_000);
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    fs::write(&here, &content).unwrap();
    fs::write(&there, &content).unwrap();
    let mut other = content[..1_500_000].to_vec();
    other[700_000] ^= 1;
    for (part, goes_on) in [(&content[..1_500_000], true), (&other[..], false)] {
        for (from, to) in [
            (remote(&there), text(&folder.path().join("new")).to_owned()),
            (text(&here).to_owned(), remote(&folder.path().join("new"))),
        ] {
            fs::write(folder.path().join(".new.ops-part"), part).unwrap();
            let output = run(&service, &["-v", "--via", "sftp", "--resume", &from, &to]);
            succeed(&output);
            let said =
                String::from_utf8_lossy(&output.stderr).contains("going on from byte 1500000");
            assert_eq!(said, goes_on, "{}", String::from_utf8_lossy(&output.stderr));
            assert!(fs::read(folder.path().join("new")).unwrap() == content);
            assert!(!folder.path().join(".new.ops-part").exists());
            fs::remove_file(folder.path().join("new")).unwrap();
        }
    }
}

#[test]
fn what_cannot_be_written_is_said_per_file_and_the_old_one_stays() {
    let service = service("", CONNECT);
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    fs::create_dir_all(here.join("d")).unwrap();
    fs::create_dir_all(there.join("here/d/taken")).unwrap();
    fs::write(here.join("d/taken"), "new").unwrap();
    fs::write(here.join("d/fine"), "fine").unwrap();
    let output = run(
        &service,
        &["--via", "sftp", "-r", text(&here), &remote(&there)],
    );
    fail(&output, 8, &["it is a folder"]);
    assert!(there.join("here/d/taken").is_dir());
    assert_eq!(fs::read(there.join("here/d/fine")).unwrap(), b"fine");
    let left: Vec<_> = fs::read_dir(there.join("here/d"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_large_file_is_shared_out_over_sessions_both_ways() {
    let service = service("", CONNECT);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let content = noise(6_000_001);
    fs::write(path("here"), &content).unwrap();
    let there = remote(&path("there"));
    for (from, to, arrived) in [
        (text(&path("here")), &there[..], path("there")),
        (&there[..], text(&path("back")), path("back")),
    ] {
        for sessions in [1, 4] {
            let before = service.sessions().len();
            let count = sessions.to_string();
            let args = ["--via", "sftp", "--sessions", &count, from, to];
            succeed(&run(&service, &args));
            assert_eq!(service.sessions().len() - before, sessions, "{to}");
            assert!(fs::read(&arrived).unwrap() == content, "{to}");
        }
    }
}
