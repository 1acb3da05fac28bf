//! What the tests copy, and how they look at it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::Output,
    time::Instant,
};

use ops_tests::{lab::PATIENCE, service::Service};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ops-under-test");
pub(crate) const WEB_1: &str = "i-0a1b2c3d4e5f60718";
/// Logs in with a key of the moment.
pub(crate) const CONNECT: &str = "ssh: { user: ec2-user, auth: instance-connect }\n";
pub(crate) const BUCKET: &str = "copy: { s3_bucket: ops-sandbox-copies, s3_prefix: some/where }\n";

pub(crate) fn service(faults: &str, profile: &str) -> Service {
    let service = Service::start(PROGRAM, faults);
    write_profile(&service, profile);
    service
}

pub(crate) fn write_profile(service: &Service, text: &str) {
    let folder = service.home().join(".config/ops/profiles");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("t.yaml"), text).unwrap();
}

pub(crate) fn run(service: &Service, args: &[&str]) -> Output {
    let all: Vec<&str> = ["cp", "--profile", "t"]
        .iter()
        .chain(args)
        .copied()
        .collect();
    service.ops(&all).output().unwrap()
}

#[track_caller]
pub(crate) fn succeed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", output.status);
}

#[track_caller]
pub(crate) fn fail(output: &Output, status: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
}

#[track_caller]
pub(crate) fn says(output: &Output, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(words), "no `{words}` in: {text}");
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn remote(path: &Path) -> String {
    format!("web-1:{}", path.display())
}

pub(crate) use ops_tests::noise;

/// Small and large, empty, odd names, links, modes, depth.
pub(crate) fn plant(root: &Path) {
    let put = |name: &OsStr, bytes: &[u8], mode: u32| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let all: Vec<u8> = (0..=255).collect();
    put(OsStr::new("empty"), b"", 0o644);
    put(OsStr::new("one"), b"x", 0o600);
    put(OsStr::new("all"), &all, 0o755);
    put(OsStr::new("large"), &noise(3_000_001), 0o640);
    put(OsStr::new("a/b/c/deep"), b"deep", 0o444);
    for name in [
        &b"odd/-rf"[..],
        b"odd/$(id) `id` \"q\" 'q'",
        b"odd/new\nline",
        b"odd/back\\slash",
        b"odd/\xff\xfe",
        b"odd/ sp  ace ",
        "odd/\u{65e5}\u{672c}".as_bytes(),
    ] {
        put(OsStr::from_bytes(name), name, 0o644);
    }
    for number in 0..150 {
        put(OsStr::new(&format!("many/{number}")), &noise(number), 0o644);
    }
    symlink("../one", root.join("a/link")).unwrap();
    symlink("nowhere", root.join("a/dangling")).unwrap();
    fs::create_dir(root.join("a/void")).unwrap();
}

/// Everything below: kind and content, mode, and time of files.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64)> {
    fn walk(root: &Path, path: &Path, found: &mut BTreeMap<PathBuf, (Vec<u8>, u32, i64)>) {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let known = fs::symlink_metadata(&path).unwrap();
            let (content, mode, time) = if known.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                (target.as_os_str().as_bytes().to_vec(), 0, 0)
            } else if known.is_dir() {
                walk(root, &path, found);
                (Vec::new(), known.mode(), known.mtime())
            } else {
                (fs::read(&path).unwrap(), known.mode(), known.mtime())
            };
            let below = path.strip_prefix(root).unwrap().to_owned();
            found.insert(below, (content, mode, time));
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

#[track_caller]
pub(crate) fn same_trees(one: &Path, other: &Path) {
    let (one, other) = (tree(one), tree(other));
    let names = |tree: &BTreeMap<PathBuf, _>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&one), names(&other));
    for (path, (content, mode, time)) in &one {
        let (there, mode_there, time_there) = &other[path];
        assert!(content == there, "{path:?} has another content");
        assert_eq!((mode, time), (mode_there, time_there), "{path:?}");
    }
}

#[track_caller]
pub(crate) fn no_sessions(service: &Service) {
    let begin = Instant::now();
    while service
        .sessions()
        .iter()
        .any(|status| status == "Connected")
    {
        assert!(begin.elapsed() < PATIENCE, "{:?}", service.sessions());
        std::thread::yield_now();
    }
}

#[track_caller]
pub(crate) fn no_objects(state: &Path) {
    let left: Vec<PathBuf> = fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .as_bytes()
                .starts_with(b"objects-")
        })
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A tree to a server; a test of its own, so that the way back need not wait for it.
pub(crate) fn there(service: &Service, via: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    fs::create_dir(&here).unwrap();
    plant(&here);
    copy_tree(service, via, text(&here), &remote(&there));
    same_trees(&here, &there);
    no_sessions(service);
}

/// A tree from a server.
pub(crate) fn back(service: &Service, via: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    fs::create_dir(&there).unwrap();
    plant(&there);
    copy_tree(service, via, &remote(&there), text(&back));
    same_trees(&there, &back);
    no_sessions(service);
}

/// One tree both ways: what comes back is what the first copy has made.
pub(crate) fn there_and_back(service: &Service, via: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (here, there, back) = (
        folder.path().join("here"),
        folder.path().join("there"),
        folder.path().join("back"),
    );
    fs::create_dir(&here).unwrap();
    plant(&here);
    copy_tree(service, via, text(&here), &remote(&there));
    same_trees(&here, &there);
    copy_tree(service, via, &remote(&there), text(&back));
    same_trees(&here, &back);
    no_sessions(service);
}

#[track_caller]
fn copy_tree(service: &Service, via: &str, from: &str, to: &str) {
    succeed(&run(service, &["--via", via, "-rp", from, to]));
}
