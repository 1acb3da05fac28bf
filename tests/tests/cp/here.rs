//! What a copy does on this machine: no link is followed, nothing but a file is replaced, and
//! nothing is touched where two sources would become one.

use std::{io::Read as _, os::unix::fs::FileTypeExt as _, os::unix::net::UnixListener};

use ops_test_needs::needs;

use super::*;

fn mkfifo(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
}

/// A tree whose links lead out of it together, and what it looks like later: `notes` is a file.
fn plant_chain(far: &Path) {
    put(far, b"t/a/b/f", b"f", 0o644);
    symlink("../..", far.join("t/a/b/top")).unwrap();
    symlink("a/b/top/../.bashrc", far.join("t/notes")).unwrap();
}

fn change_chain(far: &Path) {
    fs::remove_file(far.join("t/notes")).unwrap();
    put(far, b"t/notes", b"evil", 0o644);
}

#[test]
fn links_that_lead_out_together_bring_nothing_out_in_a_second_run() {
    needs!("curl");
    let lab = Lab::with_sandbox();
    for via in ["session", "sftp", "s3"] {
        let (far, to) = (lab.folder(&format!("{via}-far")), lab.folder(via));
        put(&to, b".bashrc", b"mine", 0o644);
        plant_chain(&far);
        lab.profile("t", unsized_files::PROFILE);
        let fetch = || {
            let args = [
                os("-r"),
                os("--profile"),
                os("t"),
                os("--via"),
                os(via),
                remote(&far.join("t")),
                to.clone().into(),
            ];
            cp(&lab, args)
        };
        let done = fetch();
        assert!(to.join("t/a/b/top").is_symlink(), "{via}: {done}");
        assert!(!to.join("t/notes").is_symlink(), "{via}: {done}");
        // As an earlier version, or somebody else, would have left it.
        symlink("a/b/top/../.bashrc", to.join("t/notes")).unwrap();
        change_chain(&far);
        fetch().success();
        assert_eq!(fs::read(to.join(".bashrc")).unwrap(), b"mine", "{via}");
        assert_eq!(fs::read(to.join("t/notes")).unwrap(), b"evil", "{via}");
        assert!(!to.join("t/notes").is_symlink());
    }
}

#[test]
fn a_link_that_lies_in_the_destination_is_never_written_through() {
    let lab = Lab::with_sandbox();
    let (far, out) = (lab.folder("far"), lab.folder("out"));
    put(&out, b"victim", b"mine", 0o644);
    put(&out, b"sub/f0", b"mine", 0o644);
    for n in 0..6 {
        put(&far, format!("t/sub/f{n}").as_bytes(), b"new", 0o644);
    }
    put(&far, b"t/victim", &noise(2_000_000), 0o644);
    for (many, below) in [(true, "t"), (false, "t/victim")] {
        let to = lab.folder(if many { "many" } else { "one" });
        let in_it = if many { to.join("t") } else { to.clone() };
        fs::create_dir_all(&in_it).unwrap();
        symlink(out.join("victim"), in_it.join("victim")).unwrap();
        symlink(out.join("sub"), in_it.join("sub")).unwrap();
        let done = cp(
            &lab,
            [os("-r"), remote(&far.join(below)), to.clone().into()],
        );
        assert_eq!(fs::read(out.join("victim")).unwrap(), b"mine", "{done}");
        assert_eq!(fs::read(out.join("sub/f0")).unwrap(), b"mine", "{done}");
        assert_eq!(fs::read(in_it.join("victim")).unwrap().len(), 2_000_000);
        if many {
            let done = done.exits(8);
            assert!(
                done.stderr.contains("is a link, which is not followed"),
                "{done}"
            );
        } else {
            done.success();
        }
        assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
    }
    // Named by the user himself it is followed, as with scp.
    let link = lab.folder("named").join("link");
    symlink(out.join("victim"), &link).unwrap();
    cp(&lab, [remote(&far.join("t/victim")), link.clone().into()]).success();
    assert!(link.is_symlink());
    assert_eq!(fs::read(out.join("victim")).unwrap().len(), 2_000_000);
}

#[test]
fn what_is_no_file_is_written_into_or_refused_and_never_replaced() {
    let lab = Lab::with_sandbox();
    let (far, here) = (lab.folder("far"), lab.folder("here"));
    put(&far, b"f", b"content\n", 0o644);
    put(&far, b"t/fifo", b"content\n", 0o644);
    put(&far, b"t/other", b"content\n", 0o644);
    let from = || remote(&far.join("f"));
    // A device stays one; a link to it too.
    symlink("/dev/null", here.join("null")).unwrap();
    for device in [PathBuf::from("/dev/null"), here.join("null")] {
        let done = cp(&lab, [from(), device.clone().into()]).success();
        assert!(done.stderr.contains("1 copied"), "{done}");
        assert!(fs::metadata(device).unwrap().file_type().is_char_device());
    }
    // The reader of a FIFO gets all of it.
    mkfifo(&here.join("fifo"));
    let reader = std::thread::spawn({
        let fifo = here.join("fifo");
        move || {
            let mut text = String::new();
            fs::File::open(fifo)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            text
        }
    });
    cp(&lab, [from(), here.join("fifo").into()]).success();
    assert_eq!(reader.join().unwrap(), "content\n");
    assert!(
        fs::metadata(here.join("fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    // Standard output under its other name.
    let done = cp(&lab, [from(), os("/dev/stdout")]).success();
    assert_eq!(done.stdout, "content\n");
    // What has no way in is refused, and a folder or several things need a folder.
    let _socket = UnixListener::bind(here.join("socket")).unwrap();
    let done = cp(&lab, [from(), here.join("socket").into()]).exits(2);
    assert!(done.stderr.contains("is a socket"), "{done}");
    assert!(
        fs::metadata(here.join("socket"))
            .unwrap()
            .file_type()
            .is_socket()
    );
    let done = cp(&lab, [os("-r"), remote(&far.join("t")), os("/dev/null")]).exits(2);
    assert!(done.stderr.contains("is no folder"), "{done}");
    cp(
        &lab,
        [
            from(),
            remote(&far.join("t/other")),
            here.join("fifo").into(),
        ],
    )
    .exits(2);
    // Within a folder it is nobody's name for it: an item that fails, and the others go on.
    fs::create_dir(here.join("t")).unwrap();
    mkfifo(&here.join("t/fifo"));
    let done = cp(
        &lab,
        [os("-r"), remote(&far.join("t")), here.clone().into()],
    )
    .exits(8);
    assert!(done.stderr.contains("is a FIFO here"), "{done}");
    assert!(
        fs::metadata(here.join("t/fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert_eq!(fs::read(here.join("t/other")).unwrap(), b"content\n");
    assert_eq!(fs::read_dir(here.join("t")).unwrap().count(), 2);
}

#[test]
fn fifos_devices_and_descriptors_are_sources() {
    let lab = Lab::with_sandbox();
    let (far, here) = (lab.folder("far"), lab.folder("here"));
    let content = noise(300_000);
    mkfifo(&here.join("fifo"));
    let writer = std::thread::spawn({
        let (fifo, content) = (here.join("fifo"), content.clone());
        move || fs::write(fifo, content).unwrap()
    });
    cp(&lab, [here.join("fifo").into(), remote(&far)]).success();
    writer.join().unwrap();
    assert_eq!(fs::read(far.join("fifo")).unwrap(), content);
    let piped = lab.ops([os("cp"), os("/dev/stdin"), remote(&far.join("piped"))]);
    piped.stdin(&content).output().success();
    assert_eq!(fs::read(far.join("piped")).unwrap(), content);
    cp(&lab, [os("/dev/null"), remote(&far.join("nothing"))]).success();
    assert_eq!(fs::read(far.join("nothing")).unwrap(), b"");
    // A descriptor has no name of its own.
    let done = lab.ops([os("cp"), os("/dev/stdin"), remote(&far)]);
    let done = done.stdin("x").output().exits(2);
    assert!(done.stderr.contains("needs the name"), "{done}");
    let line = format!(
        "{} cp <(printf two) {}",
        ops_tests::lab::binary().display(),
        remote(&far.join("process")).display()
    );
    lab.run("/bin/bash", [os("-c"), line.into()])
        .output()
        .success();
    assert_eq!(fs::read(far.join("process")).unwrap(), b"two");
    let _socket = UnixListener::bind(here.join("socket")).unwrap();
    let done = cp(&lab, [here.join("socket").into(), remote(&far)]).exits(8);
    assert!(done.stderr.contains("is a socket"), "{done}");
}

#[test]
fn a_file_whose_name_looks_like_a_server_is_hinted_at() {
    let lab = Lab::with_sandbox();
    let here = lab.folder("here");
    put(&here, b"2022-03-10T09:49:23.txt", b"x", 0o644);
    let copy = |from: &str| {
        let args = [os("cp"), os(from), remote(&here.join("copy"))];
        lab.ops(args).current_dir(&here).output()
    };
    let done = copy("2022-03-10T09:49:23.txt").exits(3);
    assert!(
        done.stderr
            .contains("hint: if you mean the file here: ./2022-03-10T09:49:23.txt"),
        "{done}"
    );
    copy("./2022-03-10T09:49:23.txt").success();
    let done = copy("2022-03-10T10:00:00.txt").exits(3);
    assert!(!done.stderr.contains("file here"), "{done}");
}

#[test]
fn sources_that_would_become_one_are_refused_before_anything_is_touched() {
    let lab = Lab::with_sandbox();
    let (far, to) = (lab.folder("far"), lab.folder("to"));
    for name in ["a/f", "b/f", "a/sub/x", "b/sub/y", "a/only"] {
        put(&far, name.as_bytes(), name.as_bytes(), 0o644);
    }
    let on = |server: &str, below: &str| os(&format!("{server}:{}/{below}", far.display()));
    let here = |below: &str| far.join(below).into_os_string();
    let down: Vec<Vec<OsString>> = vec![
        vec![on("web-1", "a/f"), on("web-2", "b/f")],
        vec![on("web-1", "a/f"), on("web-1", "b/f")],
        // What a pattern means is known once the lists are there.
        vec![on("web-1", "a/*"), on("web-2", "b/f")],
        vec![on("web-1", "*/f")],
        vec![os("-r"), on("web-1", "a/sub"), on("web-2", "b/sub")],
        vec![os("-r"), on("web-1", "a/."), on("web-2", "b/.")],
        vec![os("-r"), on("web-*", "a/f"), on("web-*", "b/f")],
    ];
    for mut args in down {
        args.push(to.clone().into());
        let done = cp(&lab, &args).exits(2);
        assert!(
            done.stderr.contains("two sources would become one"),
            "{done}"
        );
        assert!(done.stderr.contains("hint: to keep both"), "{done}");
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0, "{args:?}");
    }
    let up: Vec<Vec<OsString>> = vec![
        vec![here("a/f"), here("b/f")],
        vec![os("-r"), here("a/sub"), here("b/sub")],
        vec![os("-r"), here("a/."), here("b/.")],
        // From here and from a server; and across.
        vec![here("a/f"), on("web-2", "b/f")],
        vec![on("web-1", "a/f"), on("web-2", "b/f")],
        vec![on("web-1", "*/f")],
    ];
    for mut args in up {
        args.push(remote(&to));
        let done = cp(&lab, &args).exits(2);
        assert!(
            done.stderr.contains("two sources would become one"),
            "{done}"
        );
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0, "{args:?}");
    }
    // What keeps both, and contents that have nothing in common but folders.
    let args = [on("web-*", "a/f"), to.clone().into()];
    cp(&lab, args).success();
    assert_eq!(fs::read(to.join("web-1/f")).unwrap(), b"a/f");
    let args = [
        os("-r"),
        on("web-1", "a/sub/."),
        on("web-2", "b/sub/."),
        to.clone().into(),
    ];
    cp(&lab, args).success();
    assert!(to.join("x").exists() && to.join("y").exists());
    cp(&lab, [on("web-1", "a/f"), on("web-2", "b/f"), os("-")]).success();
}
