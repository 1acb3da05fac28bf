//! Servers that keep the output of sessions on their disks.

use std::fs;

use ops_tests::lab::{Done, Lab};

use crate::scene::{BUCKET, CONNECT, no_objects, noise, remote, text};

/// A lab with a server that has so much room, in KiB; `/var/lib/amazon/ssm` itself is not asked.
fn lab_with_room(free_kib: u64, options: &[&str]) -> Lab {
    let lab = Lab::new();
    let program = format!(
        "#!/bin/sh\necho 'Filesystem 1024-blocks Used Available Capacity Mounted on'\n\
         echo '/dev/disk one  90000000 1 {free_kib} 1% /'\n"
    );
    lab.write_program("bin/df", &program);
    let path = format!(
        "{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        lab.home().join("bin").display()
    );
    lab.env("PATH", path).serve(options.iter().copied())
}

fn copy(lab: &Lab, more: &[&str], from: &str, to: &str) -> Done {
    let args = ["cp", "--profile", "t"].iter().chain(more);
    lab.ops(args.copied().chain([from, to])).output()
}

/// Fetches a file of 3 MB from a server with room for 20, by whatever way `auto` takes.
#[track_caller]
fn goes_round(lab: &Lab, words: &[&str], via: &str) {
    let there = lab.write("there", noise(3_000_000));
    let here = lab.home().join("here");
    let done = copy(lab, &[], &remote(&there), text(&here)).success();
    for word in words {
        assert!(done.stderr.contains(word), "no `{word}` in: {done}");
    }
    let instead = format!("going by {via} instead");
    assert_eq!(done.stderr.matches(&instead).count(), 1, "{done}");
    assert!(fs::read(&here).unwrap() == noise(3_000_000));
    // What is small enough goes by session, and so does what is sent.
    let small = lab.write("small", noise(1_900_000));
    let done = copy(lab, &["-v"], &remote(&small), text(&here)).success();
    assert!(done.stderr.contains("by session"), "{done}");
    assert!(!done.stderr.contains("instead"), "{done}");
    let again = remote(&lab.home().join("again"));
    let done = copy(lab, &["-v"], text(&there), &again).success();
    assert!(!done.stderr.contains("instead"), "{done}");
}

const OLD: [&str; 2] = ["--fault", "agent-version=3.3.986.0"];

#[test]
fn a_large_copy_goes_round_the_session_where_an_old_agent_keeps_it() {
    let lab = lab_with_room(20_000, &OLD);
    lab.profile("t", CONNECT);
    let words = ["its agent, 3.3.986.0, keeps all output of sessions on the server's disk"];
    goes_round(&lab, &words, "sftp");
}

#[test]
fn a_large_copy_goes_by_the_bucket_where_an_old_agent_keeps_it_and_there_is_one() {
    ops_test_needs::needs!("curl");
    let lab = lab_with_room(20_000, &OLD);
    lab.profile("t", BUCKET);
    goes_round(&lab, &["3.3.986.0"], "s3");
    no_objects(&lab.home().join(".local/state/ops/sandbox"));
}

#[test]
fn a_large_copy_goes_round_the_session_where_the_account_logs_it() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = folder.path().join("fleet.yaml");
    let text_of = "session: { s3_bucket_name: session-logs }\ninstances: [{ name: web-1 }]\n";
    fs::write(&fleet, text_of).unwrap();
    let lab = lab_with_room(20_000, &["--fleet", text(&fleet)]);
    lab.profile("t", CONNECT);
    goes_round(&lab, &["the account logs sessions"], "sftp");
    // Preferences that may not be read are not known.
    let deny = "deny=ssm:GetDocument/SSM-SessionManagerRunShell";
    lab.ops(["sandbox", "fault", deny]).output().success();
    let there = lab.write("there", noise(3_000_000));
    let done = copy(&lab, &[], &remote(&there), text(&lab.home().join("here"))).success();
    assert!(!done.stderr.contains("instead"), "{done}");
}

#[test]
fn a_large_copy_stops_where_no_other_way_is_left_unless_the_session_is_named() {
    let lab = lab_with_room(20_000, &OLD);
    lab.profile("t", "copy: { deny_via: [sftp, s3] }\n");
    let there = lab.write("there", noise(3_000_000));
    let here = lab.home().join("here");
    let done = copy(&lab, &[], &remote(&there), text(&here)).exits(9);
    for word in [
        "2.86 MiB of `web-1` would stay on its disk for 14 days",
        "its agent, 3.3.986.0",
        "fetches 1.95 MiB at most",
        "--via session",
    ] {
        assert!(done.stderr.contains(word), "no `{word}` in: {done}");
    }
    assert!(!here.exists());
    copy(&lab, &["--via", "session"], &remote(&there), text(&here)).success();
    assert!(fs::read(&here).unwrap() == noise(3_000_000));
    // A newer agent keeps nothing.
    let lab = lab_with_room(20_000, &["--fault", "agent-version=3.3.987.0"]);
    lab.profile("t", "copy: { deny_via: [sftp, s3] }\n");
    let there = lab.write("there", noise(3_000_000));
    copy(&lab, &[], &remote(&there), text(&lab.home().join("here"))).success();
}
