//! What cannot be copied: an error for each file, the others go on, and nothing is left half done
//! on either side.

use super::*;

/// A lab whose servers run what `deploy@` does with `before` in front: a sudo of our own.
fn lab_with_sudo(before: &str) -> Lab {
    let lab = Lab::new();
    let bin = lab.folder("bin");
    let path = bin.join("sudo");
    fs::write(
        &path,
        format!("#!/bin/sh\nshift 5\n{before} \"$@\"\nexec \"$@\"\n"),
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    lab.env("PATH", path).serve([])
}

fn deploy(path: &Path) -> OsString {
    let mut place = OsString::from("deploy@web-1:");
    place.push(path);
    place
}

#[track_caller]
fn says(done: &ops_tests::lab::Done, words: &[&str]) {
    for words in words {
        assert!(done.stderr.contains(words), "no `{words}` in {done}");
    }
}

#[test]
fn a_folder_that_is_missing_on_the_server_is_said_before_anything_is_read() {
    let lab = Lab::with_sandbox();
    lab.profile("t", "ssh: { user: ec2-user, auth: instance-connect }\n");
    let (here, far) = (lab.folder("here"), lab.folder("far"));
    put(&here, b"file", b"x", 0o644);
    put(&far, b"plain", b"x", 0o644);
    for via in ["session", "sftp"] {
        for (name, why) in [
            ("nope/x", "there is no folder `web-1:"),
            ("plain/x", "plain` is no folder"),
        ] {
            let args = ["--profile", "t", "--via", via].map(os);
            let places = [here.join("file").into(), remote(&far.join(name))];
            let done = cp(&lab, args.into_iter().chain(places)).exits(2);
            assert!(done.stderr.contains(why), "{via} {done}");
            // A command that makes it, where that helps.
            let folder = far.join("nope");
            let to_make = format!("web-1 -- mkdir -p {}", folder.display());
            let is_told = done.stderr.contains("exec ") && done.stderr.contains(&to_make);
            assert_eq!(is_told, name == "nope/x", "{via} {done}");
            for words in ["cannot create", "No such file", ".ops-"] {
                assert!(!done.stderr.contains(words), "{via} {done}");
            }
        }
        // A name alone lies in the home.
        let args = ["--profile", "t", "--via", via, "--dry-run"].map(os);
        let places = [here.join("file").into(), os("web-1:new")];
        let done = cp(&lab, args.into_iter().chain(places)).success();
        let expected = format!("{} -> web-1:", here.join("file").display());
        assert!(done.stdout.starts_with(&expected), "{done}");
    }
}

#[test]
fn what_may_not_be_read_or_written_there_is_told_file_by_file() {
    // Root may do anything: then the far side is somebody else.
    let lab = lab_with_sudo(
        "[ \"$(id -u)\" != 0 ] || exec setpriv --reuid=65534 --regid=65534 --clear-groups",
    );
    let (far, here) = (lab.folder("far"), lab.folder("here"));
    for folder in [far.parent().unwrap(), &far] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    put(&far, b"t/secret", b"secret", 0);
    put(&far, b"t/large", &noise(700_000), 0);
    put(&far, b"t/open", b"open", 0o644);
    put(&here, b"t/secret", b"old", 0o644);
    let done = cp(
        &lab,
        [os("-r"), deploy(&far.join("t")), here.clone().into()],
    )
    .exits(8);
    says(
        &done,
        &[
            "t/secret",
            "t/large",
            "Permission denied",
            "2 copied",
            "2 failed",
        ],
    );
    assert_eq!(fs::read(here.join("t/secret")).unwrap(), b"old");
    assert_eq!(fs::read(here.join("t/open")).unwrap(), b"open");
    assert!(!here.join("t/large").exists());
    // Some of many, in an archive and by themselves, into a folder where nothing can be made.
    put(&far, b"to/t/old", b"old", 0o644);
    fs::create_dir(far.join("to/t/free")).unwrap();
    fs::set_permissions(far.join("to/t/free"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(far.join("to/t"), fs::Permissions::from_mode(0o555)).unwrap();
    let send = lab.folder("send");
    for n in 0..6 {
        put(&send, format!("t/free/f{n}").as_bytes(), b"new", 0o644);
        put(&send, format!("t/f{n}").as_bytes(), b"new", 0o644);
    }
    put(&send, b"t/old", b"new", 0o644);
    put(&send, b"t/large", &noise(700_000), 0o644);
    let done = cp(
        &lab,
        [os("-r"), send.join("t").into(), deploy(&far.join("to"))],
    )
    .exits(8);
    says(&done, &["`web-1` says:", "Permission denied", "8 failed"]);
    assert_eq!(fs::read(far.join("to/t/old")).unwrap(), b"old");
    let there = tree(&far.join("to/t"));
    assert_eq!(there.len(), 8, "{:?}", there.keys());
    // Where this test is not root's, it could not read them either.
    for closed in ["t/secret", "t/large"] {
        fs::set_permissions(far.join(closed), fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(leftovers(&far), Vec::<PathBuf>::new());
    assert_eq!(leftovers(&here), Vec::<PathBuf>::new());
}

#[test]
fn what_may_not_be_read_or_written_here_is_told_file_by_file() {
    let lab = Lab::with_sandbox();
    let (far, here) = (lab.folder("far"), lab.folder("here"));
    put(&far, b"a", b"a", 0o644);
    put(&far, b"b", &noise(700_000), 0o644);
    // Nobody makes files there, not even root.
    if Path::new("/proc/sys").is_dir() {
        let to = PathBuf::from("/proc/sys/");
        let done = cp(
            &lab,
            [remote(&far.join("a")), remote(&far.join("b")), to.into()],
        )
        .exits(8);
        says(
            &done,
            &["cannot write `/proc/sys/a`", "2 failed", "0 copied"],
        );
    }
    if !rustix::process::geteuid().is_root() {
        put(&here, b"secret", b"secret", 0);
        put(&here, b"open", b"open", 0o644);
        let args = [here.join("secret"), here.join("open")].map(OsString::from);
        let done = cp(&lab, args.iter().chain([&remote(&far)])).exits(8);
        says(&done, &["cannot read", "ermission denied", "1 copied"]);
        assert!(!far.join("secret").exists() && far.join("open").exists());
    }
}

#[test]
fn where_there_is_no_room_the_old_file_stays_and_nothing_else() {
    // A limit on the size of files, in place of a full disk.
    let limit = "trap \"\" XFSZ; ulimit -f 1000; exec";
    let lab = lab_with_sudo(limit);
    let (far, here) = (lab.folder("far"), lab.folder("here"));
    let large = noise(3_000_000);
    put(&here, b"t/large", &large, 0o644);
    for n in 0..6 {
        put(&here, format!("t/f{n}").as_bytes(), b"small", 0o644);
    }
    put(&far, b"t/large", b"old", 0o644);
    let done = cp(&lab, [os("-r"), here.join("t").into(), deploy(&far)]).exits(8);
    // With the place, since the words of the server are those of a part of a pipeline.
    let place = format!("cannot write `web-1:{}`", far.join("t/large").display());
    says(&done, &["File too large", "7 copied", "1 failed", &place]);
    assert_eq!(fs::read(far.join("t/large")).unwrap(), b"old");
    assert_eq!(tree(&far.join("t")).len(), 7);
    // And here.
    fs::write(here.join("t/large"), "old").unwrap();
    fs::write(far.join("t/large"), &large).unwrap();
    let program = ops_tests::lab::binary();
    let script = format!("{limit} \"$@\"");
    let args: Vec<OsString> = ["-c", &script, "sh"].map(os).into();
    let args = args.into_iter().chain([
        program.into(),
        os("cp"),
        os("-r"),
        remote(&far.join("t")),
        here.clone().into(),
    ]);
    let done = lab.run("/bin/sh", args).output().exits(8);
    says(
        &done,
        &["cannot write", "File too large", "7 copied", "1 failed"],
    );
    assert_eq!(fs::read(here.join("t/large")).unwrap(), b"old");
    assert_eq!(tree(&here.join("t")).len(), 7);
}

/// Runs `ops cp`, slowly, and does something once the copy has begun.
#[track_caller]
fn meanwhile(
    lab: &Lab,
    (sessions, rate): (&str, &str),
    args: &[OsString],
    begun: &dyn Fn() -> bool,
    act: &dyn Fn(),
) -> ops_tests::lab::Done {
    let all = ["cp", "--sessions", sessions, "--limit-rate", rate].map(os);
    let run = lab.ops(all.iter().chain(args));
    std::thread::scope(|scope| {
        let done = scope.spawn(|| run.output());
        until("the copy begins", begun);
        act();
        done.join().unwrap()
    })
}

#[test]
fn a_file_that_changes_or_vanishes_fails_alone() {
    let lab = Lab::with_sandbox();
    let (far, here) = (lab.folder("far"), lab.folder("here"));
    let large = noise(3_000_000);
    let grow = |root: &Path| {
        put(root, b"first", &large, 0o644);
        put(root, b"second", &large[..1_000_000], 0o644);
        put(root, b"third", &large[..800_000], 0o644);
    };
    let all = |root: &Path| ["first", "second", "third"].map(|name| root.join(name));
    // From the server: one is cut short while it is read, so long that most of it is not on its way
    // yet; the next one vanishes.
    grow(&far);
    put(&far, b"first", &large.repeat(10), 0o644);
    fs::write(here.join("first"), "old").unwrap();
    let args: Vec<OsString> = all(&far).iter().map(|path| remote(path)).collect();
    let args = [args, vec![here.clone().into()]].concat();
    let done = meanwhile(&lab, ("1", "8MB"), &args, &|| has_part(&here), &|| {
        fs::remove_file(far.join("second")).unwrap();
        fs::OpenOptions::new()
            .write(true)
            .open(far.join("first"))
            .and_then(|file| file.set_len(1000))
            .unwrap();
    })
    .exits(8);
    says(
        &done,
        &["first", "second", "No such file", "1 copied", "2 failed"],
    );
    assert_eq!(fs::read(here.join("first")).unwrap(), b"old");
    assert!(fs::read(here.join("third")).unwrap() == large[..800_000]);
    assert_eq!(tree(&here).len(), 2);
    // Towards it.
    grow(&here);
    for path in all(&far) {
        let _ = fs::remove_file(path);
    }
    fs::write(far.join("first"), "old").unwrap();
    let args: Vec<OsString> = all(&here).map(OsString::from).into();
    let args = [args, vec![remote(&far)]].concat();
    let done = meanwhile(&lab, ("1", "1500KB"), &args, &|| has_part(&far), &|| {
        fs::remove_file(here.join("second")).unwrap();
        // Longer, and another one from its first byte on: what is only added to would be fine.
        put(&here, b"first", &[b"more", &large[..]].concat(), 0o644);
    })
    .exits(8);
    says(
        &done,
        &[
            "changed while it was read",
            "cannot read",
            "second",
            "1 copied",
            "2 failed",
        ],
    );
    assert_eq!(fs::read(far.join("first")).unwrap(), b"old");
    assert!(fs::read(far.join("third")).unwrap() == large[..800_000]);
    assert_eq!(tree(&far).len(), 2);
}

#[test]
fn a_file_cut_short_on_its_way_to_a_server_is_not_tried_again() {
    let lab = Lab::with_sandbox();
    let (far, here) = (lab.folder("far"), lab.folder("here"));
    fs::write(far.join("first"), "old").unwrap();
    // By one session, and shared out.
    for (sessions, len) in [("1", 20_000_000), ("4", 70_000_000)] {
        put(&here, b"first", &noise(len), 0o644);
        put(&here, b"second", b"small", 0o644);
        let args = ["first", "second"].map(|name| here.join(name).into());
        let args = [vec![os("-v")], args.into(), vec![remote(&far)]].concat();
        let begun = || {
            leftovers(&far)
                .iter()
                .any(|path| fs::metadata(far.join(path)).is_ok_and(|part| part.len() > 3_000_000))
        };
        let done = meanwhile(&lab, (sessions, "8MB"), &args, &begun, &|| {
            let file = fs::OpenOptions::new().write(true).open(here.join("first"));
            file.and_then(|file| file.set_len(1000)).unwrap();
        })
        .exits(8);
        says(
            &done,
            &["changed while it was read", "1 copied", "1 failed"],
        );
        assert!(!done.stderr.contains("sending it again"), "{done}");
        until("the far end is cleaned up", || leftovers(&far).is_empty());
        assert_eq!(fs::read(far.join("first")).unwrap(), b"old");
        assert_eq!(fs::read(far.join("second")).unwrap(), b"small");
        assert_eq!(tree(&far).len(), 2);
    }
}

#[test]
fn an_interrupt_cleans_up_below_sudo_too() {
    // One that waits for the command, as the real one does: what ends sudo does not end what it
    // runs.
    let lab = Lab::new();
    let (bin, tmp) = (lab.folder("bin"), lab.folder("tmp"));
    let path = bin.join("sudo");
    fs::write(&path, "#!/bin/sh\nshift 5\n\"$@\"\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let lab = lab.env("PATH", path).env("TMPDIR", &tmp).serve([]);
    let (far, here) = (lab.folder("far"), lab.folder("here"));
    put(&here, b"big", &noise(6_000_000), 0o644);
    let pipes = || {
        fs::read_dir(&tmp)
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("ops-pipe"))
            .count()
    };
    let args = ["--limit-rate", "2MB"].map(os);
    let args = [&args[..], &[here.join("big").into(), deploy(&far)]].concat();
    interrupt(&lab, &args, &|| has_part(&far) && pipes() > 0);
    until("nothing is left", || tree(&far).is_empty() && pipes() == 0);
}
