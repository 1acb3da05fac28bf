//! `ops cp` by Session Manager's own sessions.

#![allow(clippy::unwrap_used)] // In a test's helpers too.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use ops_tests::{
    lab::{Lab, PATIENCE},
    noise,
};

mod ask;
mod bars;
mod failures;
mod here;
mod links;
mod links_kept;
mod long;
mod long_commands;
mod modes;
mod resume;
mod sessions;
mod split;
mod streams;
mod unsized_files;

/// Names that mean something to a shell, a terminal or an option parser somewhere.
const ODD: [&[u8]; 16] = [
    b"sp ace",
    b"q'uote",
    b"dq\"uote",
    b"$(touch pwned)",
    b"`touch pwned`",
    b"new\nline",
    b"trailing\n",
    b"-rf",
    b"--help",
    b"bad\xff\xfeutf",
    b"back\\slash\\n",
    b"star*",
    b"[a-z]",
    b"~",
    b"a:b;c|d&e %s",
    b"\x01\x1b[31m",
];

fn put(root: &Path, name: &[u8], content: &[u8], mode: u32) {
    let path = root.join(OsStr::from_bytes(name));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A little of everything; `many` small files.
fn grow(root: &Path, many: usize) {
    put(root, b"zero", b"", 0o644);
    put(root, b"one", b"x", 0o600);
    let all: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    put(root, b"all bytes", &all, 0o644);
    put(root, b"program", b"#!/bin/sh\n", 0o755);
    put(root, b"noise", &noise(1_500_000), 0o640);
    put(
        root,
        b"text",
        &b"the same again and again\n".repeat(40_000),
        0o444,
    );
    for name in ODD {
        put(root, &[b"odd/", name].concat(), name, 0o644);
        put(root, &[b"folders/", name, b"/f"].concat(), name, 0o644);
    }
    put(root, &[b"long/", &[b'n'; 255][..]].concat(), b"long", 0o644);
    let deep: Vec<u8> = b"d/".repeat(60);
    put(root, &[&deep[..], b"leaf"].concat(), b"leaf", 0o644);
    for n in 0..many {
        let name = format!("many/{}/f{n}", n % 13);
        put(root, name.as_bytes(), &noise(n * 7 % 5000), 0o644);
    }
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(3_000_000).unwrap();
    symlink("one", root.join("link")).unwrap();
    symlink("../one", root.join("odd/up")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o711)).unwrap();
}

/// Everything below `root`: kind, permissions, content.
fn tree(root: &Path) -> BTreeMap<PathBuf, (char, u32, Vec<u8>)> {
    fn walk(root: &Path, path: &Path, found: &mut BTreeMap<PathBuf, (char, u32, Vec<u8>)>) {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        for path in names {
            // While a copy runs its temporary files come and go.
            let Ok(known) = fs::symlink_metadata(&path) else {
                continue;
            };
            let below = path.strip_prefix(root).unwrap().to_owned();
            let mode = known.mode() & 0o7777;
            if known.is_dir() {
                found.insert(below, ('d', mode, Vec::new()));
                walk(root, &path, found);
            } else if known.is_file() {
                found.insert(below, ('f', mode, fs::read(&path).unwrap()));
            } else {
                let target = fs::read_link(&path).unwrap().into_os_string();
                found.insert(below, ('l', 0, target.into_vec()));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

#[track_caller]
fn same(one: &Path, other: &Path) {
    let (one, other) = (tree(one), tree(other));
    for (path, what) in &one {
        assert!(other.get(path) == Some(what), "{} differs", path.display());
    }
    assert_eq!(one.len(), other.len());
}

fn remote(path: &Path) -> OsString {
    let mut place = OsString::from("web-1:");
    place.push(path);
    place
}

fn cp<A: AsRef<OsStr>>(lab: &Lab, args: impl IntoIterator<Item = A>) -> ops_tests::lab::Done {
    let all: Vec<OsString> = std::iter::once(OsString::from("cp"))
        .chain(args.into_iter().map(|arg| arg.as_ref().to_owned()))
        .collect();
    lab.ops(all).output()
}

fn os(text: &str) -> OsString {
    text.into()
}

/// What is left of our own beside the files in `folder`.
fn leftovers(folder: &Path) -> Vec<PathBuf> {
    tree(folder)
        .into_keys()
        .filter(|path| path.to_string_lossy().contains(".ops-"))
        .collect()
}

/// Waits until `there` says so.
#[track_caller]
fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Runs `ops cp`, interrupts it once it has `begun`, and checks that it says so.
#[track_caller]
fn interrupt(lab: &Lab, args: &[OsString], begun: &dyn Fn() -> bool) {
    let all: Vec<OsString> = std::iter::once(os("cp"))
        .chain(args.iter().cloned())
        .collect();
    let child = lab.ops(all).spawn();
    until("the copy begins", begun);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(130),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Whether a good part of a file of ours lies in `folder`.
fn has_part(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| {
                entry.file_name().to_string_lossy().contains(".ops-")
                    && entry.metadata().is_ok_and(|known| known.len() > 300_000)
            })
        })
    })
}

#[test]
fn a_tree_with_everything_in_it_arrives_as_it_was_in_both_directions() {
    let lab = Lab::with_sandbox();
    let (far, got, sent) = (
        lab.folder("far"),
        lab.folder("x").join("got"),
        lab.folder("y").join("sent"),
    );
    grow(&far, 2000);
    cp(&lab, [os("-rp"), remote(&far), got.clone().into()]).success();
    same(&far, &got);
    let time = |path: &Path| fs::metadata(path.join("program")).unwrap().mtime();
    assert_eq!(time(&far), time(&got));
    cp(&lab, [os("-rp"), got.clone().into(), remote(&sent)]).success();
    same(&far, &sent);
    assert_eq!(time(&far), time(&sent));
    assert!(!lab.home().join("pwned").exists());
    // Once more over what is there now, without keeping modes: content is what counts.
    cp(&lab, [os("-r"), remote(&far), got.parent().unwrap().into()]).success();
    let over = got.parent().unwrap().join("far");
    let content = |path: &Path| {
        tree(path)
            .into_iter()
            .map(|(path, (_, _, bytes))| (path, bytes))
            .collect::<Vec<_>>()
    };
    assert!(content(&far) == content(&over));
}

/// Copies a large file and small ones both ways at the same time while the network does this.
#[track_caller]
fn arrives_whole(faults: &[&str]) {
    arrives_whole_each_way(faults, faults);
}

/// As [`arrives_whole`]; each way has a network of its own.
#[track_caller]
fn arrives_whole_each_way(down: &[&str], up: &[&str]) {
    let copy = |faults: &[&str], is_down: bool| {
        let lab = Lab::with_sandbox();
        let (here, there) = (lab.folder("x").join("here"), lab.folder("there"));
        put(&there, b"noise", &noise(1_200_000), 0o644);
        for n in 0..40 {
            put(&there, format!("f{n}").as_bytes(), &noise(n * 100), 0o644);
        }
        lab.ops(["sandbox", "fault"].iter().chain(faults))
            .output()
            .success();
        if is_down {
            cp(&lab, [os("-rp"), remote(&there), here.clone().into()]).success();
        } else {
            cp(&lab, [os("-rp"), there.clone().into(), remote(&here)]).success();
        }
        same(&there, &here);
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(down, true));
        copy(up, false);
    });
}

#[test]
fn lost_messages_change_no_copy() {
    arrives_whole(&["drop=0.5%"]);
}

#[test]
fn messages_that_come_twice_change_no_copy() {
    arrives_whole(&["duplicate=5%"]);
}

#[test]
fn messages_that_overtake_each_other_change_no_copy() {
    arrives_whole(&["reorder=5%"]);
}

#[test]
fn a_connection_that_is_cut_changes_no_copy() {
    arrives_whole(&["cut-after=1500", "cuts=1"]);
}

#[test]
fn an_agent_that_is_silent_for_a_while_changes_no_copy() {
    // The first two sessions alone: with every one that a copy goes on in, the silences of the
    // copy down would come one after another. A copy up sends far fewer messages.
    let silent = |after| ["first=2", "silent-for=10s", after];
    arrives_whole_each_way(&silent("silent-after=1000"), &silent("silent-after=120"));
}

#[test]
fn each_kind_of_document_works() {
    let lab = Lab::with_sandbox();
    let (far, got) = (lab.folder("far"), lab.folder("got"));
    put(&far, b"a/noise", &noise(300_000), 0o644);
    put(&far, b"a/zero", b"", 0o644);
    for (document, slow) in [
        ("Sandbox-CommandSeparated", false),
        ("Sandbox-CommandPlain", true),
    ] {
        lab.profile("t", &format!("copy: {{ document: {document} }}\n"));
        let to = got.join(document);
        let done = cp(
            &lab,
            [
                os("-rvp"),
                os("--profile"),
                os("t"),
                remote(&far.join("a")),
                to.clone().into(),
            ],
        )
        .success();
        assert_eq!(done.stderr.contains("no separated output"), slow, "{done}");
        same(&far.join("a"), &to);
        let back = got.join(format!("{document}-back"));
        cp(
            &lab,
            [
                os("-rp"),
                os("--profile"),
                os("t"),
                to.into(),
                remote(&back),
            ],
        )
        .success();
        same(&far.join("a"), &back);
    }
}

#[test]
fn a_server_with_next_to_nothing_installed_is_enough() {
    let lab = Lab::new();
    let bin = lab.folder("bin");
    for tool in [
        "sh", "tail", "od", "sed", "head", "dd", "cut", "tr", "cat", "wc", "mktemp", "mkfifo",
        "stty", "mkdir", "chmod", "touch", "mv", "rm", "id", "ln", "readlink", "sleep", "stat",
        "sort",
    ] {
        let found = ["/usr/bin", "/bin"]
            .iter()
            .map(|folder| Path::new(folder).join(tool))
            .find(|path| path.exists());
        symlink(found.unwrap(), bin.join(tool)).unwrap();
    }
    // One that cannot print what it finds.
    let find = bin.join("find");
    fs::write(
        &find,
        "#!/bin/sh\nfor a; do [ \"$a\" != -printf ] || exit 1; done\nexec /usr/bin/find \"$@\"\n",
    )
    .unwrap();
    fs::set_permissions(&find, fs::Permissions::from_mode(0o755)).unwrap();
    let lab = lab.env("PATH", &bin).serve([]);
    let (far, got, sent) = (
        lab.folder("far"),
        lab.folder("x").join("got"),
        lab.folder("y").join("sent"),
    );
    put(&far, b"noise", &noise(5_000_001), 0o640);
    for name in ODD {
        put(&far, &[b"odd/", name].concat(), name, 0o644);
    }
    symlink("noise", far.join("link")).unwrap();
    let done = cp(&lab, [os("-rpv"), remote(&far), got.clone().into()]).success();
    assert!(done.stderr.contains("no sha256sum"), "{done}");
    same(&far, &got);
    cp(&lab, [os("-rp"), far.clone().into(), remote(&sent)]).success();
    same(&far, &sent);
}

#[test]
fn a_hostile_server_writes_nowhere_but_into_the_destination() {
    let lab = Lab::new();
    let bin = lab.folder("bin");
    let find = bin.join("find");
    fs::write(
        &find,
        "#!/bin/sh\n\
         case \"$*\" in */evil*printf*) ;; *) exec /usr/bin/find \"$@\";; esac\n\
         e=$(printf %s \"$2\")\n\
         printf 'd 0 755 1 %s\\0\\0' \"$e\"\n\
         printf 'f 4 644 1 %s/../outside\\0\\0' \"$e\"\n\
         printf 'f 4 644 1 %s/a/../../outside\\0\\0' \"$e\"\n\
         printf 'l 4 777 1 %s/trap\\0/tmp\\0' \"$e\"\n\
         printf 'l 4 777 1 %s/climb\\0../../x\\0' \"$e\"\n\
         printf 'f 4 644 1 %s/trap/inside\\0\\0' \"$e\"\n\
         printf 'b 4 644 1 %s/device\\0\\0' \"$e\"\n\
         printf 'f 4 644 1 %s/%s\\0\\0' \"$e\" \"$(printf %0300d 1)\"\n\
         printf 'f 4 4755 1 %s/good\\0\\0' \"$e\"\n",
    )
    .unwrap();
    fs::set_permissions(&find, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let lab = lab.env("PATH", path).serve([]);
    let (far, to) = (lab.folder("far").join("evil"), lab.folder("to"));
    put(&far, b"good", b"good", 0o644);
    let done = cp(&lab, [os("-rp"), remote(&far), to.clone().into()]).exits(8);
    let names: Vec<PathBuf> = tree(&to).into_keys().collect();
    assert_eq!(names, [PathBuf::from("evil"), "evil/good".into()], "{done}");
    assert_eq!(
        fs::metadata(to.join("evil/good")).unwrap().mode() & 0o7777,
        0o755
    );
    for words in [
        "leads out of its folder",
        "leads out of what is copied",
        "too long",
        "neither file",
    ] {
        assert!(done.stderr.contains(words), "no `{words}` in {done}");
    }
}

#[test]
fn failures_are_of_single_files_and_the_old_ones_stay() {
    let lab = Lab::with_sandbox();
    let (far, to) = (lab.folder("far"), lab.folder("to"));
    put(&far, b"a", b"new", 0o644);
    put(&far, b"d/x", b"x", 0o644);
    put(&to, b"a", b"old", 0o644);
    fs::create_dir(to.join("b")).unwrap();
    put(&far, b"b", b"file", 0o644);
    let done = cp(
        &lab,
        [
            remote(&far.join("nope")),
            remote(&far.join("b")),
            remote(&far.join("d")),
            remote(&far.join("a")),
            to.clone().into(),
        ],
    )
    .exits(8);
    for words in [
        "is not there",
        "is a folder",
        "hint: copy folders with all that is in them: -r",
        "1 copied",
        "3 failed",
    ] {
        assert!(done.stderr.contains(words), "no `{words}` in {done}");
    }
    assert_eq!(fs::read(to.join("a")).unwrap(), b"new");
    // The other way, into a folder that is none.
    let done = cp(&lab, [to.join("a").into(), remote(&far.join("b/"))]).exits(2);
    assert!(done.stderr.contains("is no folder"), "{done}");
    let done = cp(
        &lab,
        [
            to.join("a").into_os_string(),
            to.join("none").into(),
            remote(&far),
        ],
    )
    .exits(8);
    assert!(done.stderr.contains("cannot read"), "{done}");
    cp(&lab, [os("a"), os("b")]).exits(2);
    assert_eq!((leftovers(&to), leftovers(&far)), (vec![], vec![]));
}

#[test]
fn what_is_there_stays_where_it_should() {
    let lab = Lab::with_sandbox();
    let (far, to) = (lab.folder("far"), lab.folder("to"));
    put(&far, b"t/same", b"equal", 0o644);
    put(&far, b"t/other", b"far", 0o644);
    put(&far, b"t/skip.log", b"log", 0o644);
    put(&to, b"t/same", b"equal", 0o644);
    put(&to, b"t/other", b"old", 0o644);
    let tree_of = remote(&far.join("t"));
    let plan = cp(
        &lab,
        [
            os("-r"),
            os("--dry-run"),
            os("--checksum"),
            os("--exclude"),
            os("*.log"),
            tree_of.clone(),
            to.clone().into(),
        ],
    )
    .success();
    assert!(
        plan.stdout.contains("far/t/other ->")
            && !plan.stdout.contains("same")
            && !plan.stdout.contains("log"),
        "{plan}"
    );
    assert_eq!(fs::read(to.join("t/other")).unwrap(), b"old");
    cp(
        &lab,
        [
            os("-r"),
            os("--overwrite"),
            os("never"),
            tree_of.clone(),
            to.clone().into(),
        ],
    )
    .success();
    assert_eq!(fs::read(to.join("t/other")).unwrap(), b"old");
    let report = cp(
        &lab,
        [
            os("-r"),
            os("--checksum"),
            os("-o"),
            os("json"),
            tree_of,
            to.clone().into(),
        ],
    )
    .success()
    .json();
    assert_eq!(
        (report["kind"].as_str(), report["skipped"].as_u64()),
        (Some("CopyReport"), Some(2))
    );
    assert_eq!(fs::read(to.join("t/other")).unwrap(), b"far");
    // And towards the server.
    put(&to, b"t/other", b"older", 0o644);
    fs::File::open(to.join("t/other"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    cp(
        &lab,
        [
            os("-r"),
            os("--overwrite"),
            os("newer"),
            to.join("t").into(),
            remote(&far),
        ],
    )
    .success();
    assert_eq!(fs::read(far.join("t/other")).unwrap(), b"far");
}

#[test]
fn streams_many_servers_and_relays() {
    let lab = Lab::with_sandbox();
    let (far, to) = (lab.folder("far"), lab.folder("to"));
    let bytes = noise(400_000);
    let path = far.join("stream");
    let all: Vec<OsString> = vec![os("cp"), os("-"), remote(&path)];
    lab.ops(all).stdin(&bytes).output().success();
    assert!(fs::read(&path).unwrap() == bytes);
    let done = cp(&lab, [remote(&path), os("-")]).success();
    assert!(done.bytes == bytes);
    // From many: a folder for each.
    let many = OsString::from(format!("web-*:{}", far.join("st*").display()));
    cp(&lab, [many, to.clone().into()]).success();
    for name in ["web-1", "web-2", "web-3"] {
        assert!(
            fs::read(to.join(name).join("stream")).unwrap() == bytes,
            "{name}"
        );
    }
    // To many; their homes are their own.
    put(&to, b"conf", b"conf", 0o644);
    cp(
        &lab,
        [to.join("conf").into_os_string(), os("web-*:conf-copy")],
    )
    .success();
    for name in ["web-1", "web-2", "web-3"] {
        let done = cp(
            &lab,
            [OsString::from(format!("{name}:~/conf-copy")), os("-")],
        )
        .success();
        assert_eq!(done.bytes, b"conf");
    }
    // From one to another, a tree, and nothing of it here.
    let tree = far.join("tree");
    grow(&tree, 50);
    let there = lab.folder("there");
    let target = OsString::from(format!("web-2:{}", there.join("tree").display()));
    cp(&lab, [os("-rp"), remote(&tree), target]).success();
    same(&tree, &there.join("tree"));
    let done = cp(&lab, [os("nothing"), os("web-*:/tmp/"), os("--no-input")]).exits(8);
    assert!(done.stderr.contains("cannot read `nothing`"), "{done}");
}

#[test]
fn an_interrupt_cleans_up_both_ends_and_resume_goes_on() {
    let lab = Lab::with_sandbox();
    let (far, here) = (lab.folder("far"), lab.folder("here"));
    let bytes = noise(6_000_000);
    fs::write(far.join("big"), &bytes).unwrap();
    let slow = [os("--limit-rate"), os("2MB")];
    let with = |args: &[OsString]| slow.iter().chain(args).cloned().collect::<Vec<_>>();
    interrupt(
        &lab,
        &with(&[remote(&far.join("big")), here.clone().into()]),
        &|| has_part(&here),
    );
    assert_eq!(tree(&here).len(), 0);
    let target = far.join("up");
    interrupt(
        &lab,
        &with(&[far.join("big").into(), remote(&target)]),
        &|| {
            leftovers(&far)
                .iter()
                .any(|path| path.starts_with(".up.ops-"))
                || has_part(&far)
        },
    );
    until("the far end is cleaned up", || leftovers(&far).is_empty());
    assert!(!target.exists());
    // With --resume what has arrived stays, and is gone on with.
    interrupt(
        &lab,
        &with(&[
            os("--resume"),
            remote(&far.join("big")),
            here.clone().into(),
        ]),
        &|| has_part(&here),
    );
    assert_eq!(leftovers(&here).len(), 1);
    let done = cp(
        &lab,
        [
            os("--resume"),
            os("-v"),
            remote(&far.join("big")),
            here.clone().into(),
        ],
    )
    .success();
    assert!(done.stderr.contains("going on from byte"), "{done}");
    assert!(fs::read(here.join("big")).unwrap() == bytes);
    assert_eq!(leftovers(&here).len(), 0);
    // A part of something else is no beginning.
    fs::write(far.join(".up.ops-part"), "something else").unwrap();
    cp(
        &lab,
        [os("--resume"), here.join("big").into(), remote(&target)],
    )
    .success();
    assert!(fs::read(&target).unwrap() == bytes);
    assert_eq!(leftovers(&far).len(), 0);
}

#[test]
fn another_user_acts_through_sudo_or_is_plainly_refused() {
    let lab = Lab::new();
    let bin = lab.folder("bin");
    let program = |text: &str| {
        let path = bin.join("sudo");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    program(
        "#!/bin/sh\n[ \"$1 $2 $3 $4 $5\" = '-n -H -u deploy --' ] || exit 9\nshift 5\nexec \"$@\"\n",
    );
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let lab = lab.env("PATH", path).serve([]);
    let far = lab.folder("far");
    put(&far, b"a", b"as deploy", 0o644);
    let place = |file: &str| OsString::from(format!("deploy@web-1:{}", far.join(file).display()));
    let done = cp(&lab, [place("a"), os("-")]).success();
    assert_eq!(done.bytes, b"as deploy");
    cp(&lab, [far.join("a").into_os_string(), place("b")]).success();
    assert_eq!(fs::read(far.join("b")).unwrap(), b"as deploy");
    program("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n");
    let done = cp(&lab, [place("a"), os("-")]).exits(5);
    assert!(
        done.stderr.contains("may not become `deploy`")
            && done.stderr.contains("a password is required"),
        "{done}"
    );
}
