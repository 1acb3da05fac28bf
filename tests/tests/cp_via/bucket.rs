//! Files by way of a bucket.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Instant,
};

use ops_tests::lab::{Done, Lab, PATIENCE};

use crate::scene::{BUCKET, no_objects, noise, remote, service, text, there_and_back};

#[test]
fn a_tree_goes_there_and_back_by_way_of_the_bucket_and_nothing_stays_in_it() {
    let service = service("", BUCKET);
    there_and_back(&service, "s3");
    no_objects(&service.home().join("sandbox"));
    let calls = service.calls();
    let count = |action: &str| calls.iter().filter(|call| *call == action).count();
    assert!(count("PutObject") > 100);
    assert_eq!(count("PutObject"), count("DeleteObject"));
}

/// A lab whose server finds this in place of curl; with `$real` and `$seen` set.
fn lab_with_curl(script: &str) -> (Lab, PathBuf) {
    let lab = Lab::new();
    let seen = lab.home().join("seen");
    let real = "/usr/bin/curl";
    let head = format!("#!/bin/sh\nreal={real}\nseen={}\n", seen.display());
    lab.write_program("bin/curl", &format!("{head}{script}"));
    let path = format!(
        "{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        lab.home().join("bin").display()
    );
    let lab = lab.env("PATH", path).serve([]);
    lab.profile("t", BUCKET);
    (lab, seen)
}

fn copy_by_s3(lab: &Lab, from: &str, to: &str) -> Done {
    lab.ops(["cp", "--profile", "t", "--via", "s3", from, to])
        .output()
}

#[test]
fn no_command_line_on_the_server_holds_an_address() {
    let (lab, seen) = lab_with_curl(
        "printf '%s\\n' \"$@\" >>\"$seen\"\nps -eo args >>\"$seen\"\nexec \"$real\" \"$@\"\n",
    );
    let there = lab.write("there", noise(300_000));
    let here = lab.home().join("here");
    copy_by_s3(&lab, &remote(&there), text(&here)).success();
    copy_by_s3(&lab, text(&here), &remote(&lab.home().join("again"))).success();
    assert!(fs::read(lab.home().join("again")).unwrap() == noise(300_000));
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("-K"), "{seen}");
    assert!(!seen.contains("X-Amz-Signature"), "{seen}");
    no_objects(&lab.home().join(".local/state/ops/sandbox"));
}

#[test]
fn an_object_is_deleted_when_the_server_fails_and_when_the_user_gives_up() {
    let (lab, seen) = lab_with_curl(
        "\"$real\" \"$@\"\n[ -e \"$seen.wait\" ] || { echo \"no more\" >&2; exit 55; }\necho $$ >\"$seen\"\nexec sleep 600\n",
    );
    let state = lab.home().join(".local/state/ops/sandbox");
    let there = lab.write("there", noise(300_000));
    let here = lab.home().join("here");
    let done = copy_by_s3(&lab, &remote(&there), text(&here)).exits(8);
    assert!(done.stderr.contains("no more"), "{done}");
    assert!(!here.exists());
    no_objects(&state);

    lab.write("seen.wait", "");
    let to = remote(&lab.home().join("new"));
    let mut child = lab
        .ops(["cp", "--profile", "t", "--via", "s3", text(&there), &to])
        .spawn();
    let begin = Instant::now();
    while !seen.exists() {
        assert!(begin.elapsed() < PATIENCE, "curl was not started");
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    no_objects(&state);
    assert!(!lab.home().join("new").exists());
}

#[test]
fn wget_does_where_there_is_no_curl() {
    if !Path::new("/usr/bin/wget").is_file() {
        println!("there is no wget here");
        return;
    }
    let lab = Lab::new();
    let bin = lab.folder("bin");
    for program in fs::read_dir("/usr/bin")
        .unwrap()
        .chain(fs::read_dir("/bin").unwrap())
    {
        let program = program.unwrap();
        if program.file_name() != "curl" {
            // Both folders may be one.
            let _ = symlink(program.path(), bin.join(program.file_name()));
        }
    }
    let lab = lab.env("PATH", text(&bin)).serve([]);
    lab.profile("t", BUCKET);
    let there = lab.write("there", noise(300_000));
    let here = lab.home().join("here");
    copy_by_s3(&lab, &remote(&there), text(&here)).success();
    copy_by_s3(&lab, text(&here), &remote(&lab.home().join("again"))).success();
    assert!(fs::read(lab.home().join("again")).unwrap() == noise(300_000));
    fs::remove_file(bin.join("wget")).unwrap();
    let done = copy_by_s3(&lab, text(&here), &remote(&there)).exits(7);
    assert!(done.stderr.contains("neither curl nor wget"), "{done}");
    no_objects(&lab.home().join(".local/state/ops/sandbox"));
}
