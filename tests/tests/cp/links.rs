//! No link is followed below what the user named, on servers too: neither written through nor read
//! through, by session, by sftp, and from server to server.

use super::*;

const SFTP: &str = "ssh: { user: ec2-user, auth: instance-connect }\n";

/// A folder next to the destination, which nothing may touch.
fn plant_outside(lab: &Lab) -> PathBuf {
    let outside = lab.folder("outside");
    for name in ["victim", "f0", "inner"] {
        put(&outside, name.as_bytes(), b"precious", 0o644);
    }
    outside
}

#[track_caller]
fn assert_untouched(outside: &Path, done: &ops_tests::lab::Done) {
    let names: Vec<PathBuf> = tree(outside).into_keys().collect();
    assert_eq!(
        names,
        [PathBuf::from("f0"), "inner".into(), "victim".into()],
        "{done}"
    );
    for name in names {
        let content = fs::read(outside.join(&name)).unwrap();
        assert_eq!(content, b"precious", "{} {done}", name.display());
    }
}

/// A tree whose names are those of links at the destination.
fn plant_tree(root: &Path, files: usize) {
    put(root, b"notes", b"new", 0o644);
    put(root, b"a/inner", b"new", 0o644);
    put(root, b"b/c/deep", b"new", 0o644);
    for n in 0..files {
        put(root, format!("a/f{n}").as_bytes(), b"new", 0o644);
        put(root, format!("d/f{n}").as_bytes(), b"new", 0o644);
    }
}

/// What lies at the destination already: links where the tree has a file and folders.
fn plant_links(there: &Path) {
    fs::create_dir_all(there.join("b")).unwrap();
    symlink("../outside/victim", there.join("notes")).unwrap();
    symlink("../outside", there.join("a")).unwrap();
    symlink("../../outside", there.join("b/c")).unwrap();
}

#[track_caller]
fn assert_links_were_refused(there: &Path, outside: &Path, done: &ops_tests::lab::Done) {
    assert_untouched(outside, done);
    // A file takes the place of a link; a folder does not, and what would go into it stays away.
    assert!(!there.join("notes").is_symlink(), "{done}");
    assert_eq!(fs::read(there.join("notes")).unwrap(), b"new", "{done}");
    assert!(there.join("a").is_symlink() && there.join("b/c").is_symlink());
    assert!(
        done.stderr
            .contains("is a link on the server, which is not followed"),
        "{done}"
    );
    assert_eq!(fs::read(there.join("d/f0")).unwrap(), b"new", "{done}");
}

fn writes_through_no_link(via: &str) {
    // Few files go one by one, many in archives.
    for files in [1, 40] {
        let lab = Lab::with_sandbox();
        lab.profile("t", SFTP);
        let (here, there) = (lab.folder("x").join("t"), lab.folder("t"));
        let outside = plant_outside(&lab);
        plant_tree(&here, files);
        plant_links(&there);
        let done = cp(
            &lab,
            [
                os("--profile"),
                os("t"),
                os("--via"),
                os(via),
                os("-r"),
                here.clone().into(),
                remote(there.parent().unwrap()),
            ],
        )
        .exits(8);
        assert_links_were_refused(&there, &outside, &done);
        assert_eq!(leftovers(&there), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_link_at_the_destination_is_not_written_through() {
    writes_through_no_link("session");
}

#[test]
fn a_link_at_the_destination_is_not_written_through_by_sftp() {
    writes_through_no_link("sftp");
}

fn second_run_writes_through_no_link(via: &str) {
    let lab = Lab::with_sandbox();
    lab.profile("t", SFTP);
    let (here, there) = (lab.folder("x").join("t"), lab.folder("y"));
    let outside = plant_outside(&lab);
    let send = || {
        let args = ["--profile", "t", "--via", via, "-r"];
        let mut all: Vec<OsString> = args.iter().copied().map(os).collect();
        all.extend([here.clone().into(), remote(&there)]);
        cp(&lab, all)
    };
    // Each alone stays within the tree; together they lead out of it.
    put(&here, b"a/b/file", b"file", 0o644);
    symlink("../..", here.join("a/b/top")).unwrap();
    symlink("a/b/top/../../outside/victim", here.join("notes")).unwrap();
    send();
    // Whatever the first run has made of them, they are there.
    for (name, target) in [
        ("a/b/top", "../.."),
        ("notes", "a/b/top/../../outside/victim"),
    ] {
        let path = there.join("t").join(name);
        if !path.is_symlink() {
            symlink(target, path).unwrap();
        }
    }
    // The second time they are a file, and a folder with the name of one that is outside.
    fs::remove_file(here.join("notes")).unwrap();
    fs::remove_file(here.join("a/b/top")).unwrap();
    put(&here, b"notes", b"new", 0o644);
    put(&here, b"a/b/top/t2/victim", b"new", 0o644);
    let done = send().exits(8);
    assert_untouched(&outside, &done);
    assert!(!there.join("t2").exists() && !there.join("t/t2").exists());
    assert_eq!(fs::read(there.join("t/notes")).unwrap(), b"new", "{done}");
    assert!(
        done.stderr
            .contains("is a link on the server, which is not followed"),
        "{done}"
    );
}

#[test]
fn a_link_that_the_tree_brought_is_not_written_through_when_the_tree_comes_again() {
    second_run_writes_through_no_link("session");
}

#[test]
fn a_link_that_the_tree_brought_is_not_written_through_when_the_tree_comes_again_by_sftp() {
    second_run_writes_through_no_link("sftp");
}

fn relays_through_no_link(via: &str) {
    let lab = Lab::with_sandbox();
    lab.profile("t", SFTP);
    let (from, there) = (lab.folder("from").join("t"), lab.folder("t"));
    let outside = plant_outside(&lab);
    plant_tree(&from, 6);
    plant_links(&there);
    let to = OsString::from(format!("web-2:{}", there.parent().unwrap().display()));
    let args = ["--profile", "t", "--via", via, "-r"];
    let mut all: Vec<OsString> = args.iter().copied().map(os).collect();
    all.extend([remote(&from), to]);
    let done = cp(&lab, all).exits(8);
    assert_links_were_refused(&there, &outside, &done);
}

#[test]
fn a_server_writes_through_no_link_of_another_one() {
    relays_through_no_link("session");
}

#[test]
fn a_server_writes_through_no_link_of_another_one_by_sftp() {
    relays_through_no_link("sftp");
}

#[test]
fn what_the_user_named_may_be_a_link() {
    for via in ["session", "sftp"] {
        let lab = Lab::with_sandbox();
        lab.profile("t", SFTP);
        let (here, there) = (lab.folder("here"), lab.folder("there"));
        put(&here, b"file", b"new", 0o644);
        put(&here, b"t/sub/inner", b"new", 0o644);
        put(&there, b"v2/conf", b"old", 0o640);
        symlink("v2", there.join("current")).unwrap();
        symlink("v2/conf", there.join("conf")).unwrap();
        let run = |args: Vec<OsString>| {
            let all = ["--profile", "t", "--via", via].map(os);
            cp(&lab, all.into_iter().chain(args)).success()
        };
        // A file behind a link that is named is replaced, and keeps its mode; the link stays.
        run(vec![here.join("file").into(), remote(&there.join("conf"))]);
        assert!(there.join("conf").is_symlink(), "{via}");
        assert_eq!(fs::read(there.join("v2/conf")).unwrap(), b"new");
        assert_eq!(
            fs::metadata(there.join("v2/conf")).unwrap().mode() & 0o777,
            0o640
        );
        // Folders that are named, and those on the way to them.
        run(vec![
            os("-r"),
            here.join("t").into(),
            remote(&there.join("current")),
        ]);
        run(vec![
            here.join("file").into(),
            remote(&there.join("current/t/sub/named")),
        ]);
        assert_eq!(fs::read(there.join("v2/t/sub/inner")).unwrap(), b"new");
        assert_eq!(fs::read(there.join("v2/t/sub/named")).unwrap(), b"new");
        // And the same for reading.
        let got = lab.folder("got");
        run(vec![
            os("-r"),
            remote(&there.join("current")),
            remote(&there.join("conf")),
            got.clone().into(),
        ]);
        assert_eq!(fs::read(got.join("current/t/sub/inner")).unwrap(), b"new");
        assert_eq!(fs::read(got.join("conf")).unwrap(), b"new");
    }
}

/// A server on which `program` puts a link to `outside` in the place of the folder `t/d`, as soon
/// as it has run.
fn swapping(program: &str) -> (Lab, PathBuf, PathBuf) {
    let lab = Lab::new();
    let (bin, far, outside) = (lab.folder("bin"), lab.folder("far"), lab.folder("outside"));
    let real = ops_test_needs::find(program).unwrap();
    let text = format!(
        "#!/bin/sh\n'{}' \"$@\"; s=$?\n\
         # Not when it is only tried out.\n\
         [ \"$1\" != / ] || exit $s\n\
         [ -h '{far}/t/d' ] || [ ! -e '{far}/armed' ] || {{ mv '{far}/t/d' '{far}/was'; ln -s '{}' '{far}/t/d'; }}\n\
         exit $s\n",
        real.display(),
        outside.display(),
        far = far.display(),
    );
    put(&bin, program.as_bytes(), text.as_bytes(), 0o755);
    let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", bin.display());
    let lab = lab.env("PATH", path).serve([]);
    lab.profile("t", SFTP);
    (lab, far, outside)
}

fn reads_through_no_link(program: &str, options: &[&str]) {
    for files in [1, 12] {
        let (lab, far, outside) = swapping(program);
        for n in 0..files {
            put(&far, format!("t/d/f{n}").as_bytes(), b"mine", 0o644);
            // As long as what is expected, so that nothing else gives it away.
            put(&outside, format!("f{n}").as_bytes(), b"oops", 0o600);
        }
        put(&far, b"t/plain", b"mine", 0o644);
        put(&far, b"armed", b"", 0o644);
        let got = lab.folder("got");
        let mut all: Vec<OsString> = options.iter().copied().map(os).collect();
        all.extend([os("-r"), remote(&far.join("t")), got.clone().into()]);
        let done = cp(&lab, all).exits(8);
        assert!(far.join("t/d").is_symlink(), "{done}");
        assert_eq!(fs::read(got.join("t/plain")).unwrap(), b"mine", "{done}");
        assert_eq!(fs::read_dir(got.join("t/d")).unwrap().count(), 0, "{done}");
        assert!(
            done.stderr
                .contains("is a link on the server, which is not followed"),
            "{done}"
        );
    }
}

#[test]
fn a_link_put_in_the_place_of_a_folder_that_was_listed_is_not_read_through() {
    reads_through_no_link("find", &[]);
}

#[test]
fn a_link_put_in_the_place_of_a_folder_that_was_listed_is_not_read_through_by_sftp() {
    let options = ["--profile", "t", "--via", "sftp", "--checksum"];
    reads_through_no_link("xargs", &options);
}
