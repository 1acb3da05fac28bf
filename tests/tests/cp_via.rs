//! `ops cp` by SFTP and by way of a bucket.

#![allow(clippy::unwrap_used)] // In a test's helpers too.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Instant,
};

use ops_tests::{
    lab::{Done, Lab, PATIENCE},
    service::Service,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ops-under-test");
const WEB_1: &str = "i-0a1b2c3d4e5f60718";
/// Logs in with a key of the moment.
const CONNECT: &str = "ssh: { user: ec2-user, auth: instance-connect }\n";
const BUCKET: &str = "copy: { s3_bucket: ops-sandbox-copies, s3_prefix: some/where }\n";

fn service(faults: &str, profile: &str) -> Service {
    let service = Service::start(PROGRAM, faults);
    write_profile(&service, profile);
    service
}

fn write_profile(service: &Service, text: &str) {
    let folder = service.home().join(".config/ops/profiles");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("t.yaml"), text).unwrap();
}

fn run(service: &Service, args: &[&str]) -> Output {
    let all: Vec<&str> = ["cp", "--profile", "t"]
        .iter()
        .chain(args)
        .copied()
        .collect();
    service.ops(&all).output().unwrap()
}

#[track_caller]
fn succeed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", output.status);
}

#[track_caller]
fn fail(output: &Output, status: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn remote(path: &Path) -> String {
    format!("web-1:{}", path.display())
}

/// Bytes that are not alike, the same every time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(len)
    .collect()
}

/// Small and large, empty, odd names, links, modes, depth.
fn plant(root: &Path) {
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
fn tree(root: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64)> {
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
fn same_trees(one: &Path, other: &Path) {
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
fn no_sessions(service: &Service) {
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
fn no_objects(state: &Path) {
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

fn there_and_back(service: &Service, via: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (here, there, back) = (
        folder.path().join("here"),
        folder.path().join("there"),
        folder.path().join("back"),
    );
    fs::create_dir(&here).unwrap();
    plant(&here);
    succeed(&run(
        service,
        &["--via", via, "-rp", text(&here), &remote(&there)],
    ));
    same_trees(&here, &there);
    succeed(&run(
        service,
        &["--via", via, "-rp", &remote(&there), text(&back)],
    ));
    same_trees(&here, &back);
    no_sessions(service);
}

#[test]
fn a_tree_goes_there_and_back_by_sftp() {
    let service = service("", CONNECT);
    there_and_back(&service, "sftp");
}

#[test]
fn a_tree_goes_there_and_back_by_sftp_while_the_network_is_bad() {
    let faults = "seed=7,drop=1%,duplicate=1%,reorder=1%,cut-after=400";
    let service = service(faults, CONNECT);
    there_and_back(&service, "sftp");
}

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
fn a_host_key_is_pinned_at_first_and_another_is_refused() {
    let service = service("", CONNECT);
    let folder = tempfile::tempdir().unwrap();
    let (there, here) = (folder.path().join("there"), folder.path().join("here"));
    fs::write(&there, "x").unwrap();
    let copy = || run(&service, &["--via", "sftp", &remote(&there), text(&here)]);
    succeed(&copy());
    succeed(&copy());
    let file = service.home().join(".local/state/ops/ssh/known_hosts");
    let pinned = fs::read_to_string(&file).unwrap();
    assert_eq!(pinned.lines().count(), 1, "{pinned}");
    assert!(pinned.starts_with(&format!("{WEB_1} ssh-ed25519 ")));
    fs::remove_file(&here).unwrap();
    fs::write(
        &file,
        format!("{WEB_1} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl0\n"),
    )
    .unwrap();
    let output = copy();
    let forget = format!("ssh-keygen -R {WEB_1} -f ");
    fail(
        &output,
        9,
        &["the host key of `web-1` has changed", &forget],
    );
    assert!(!here.exists());
}

#[test]
fn who_is_not_let_in_is_told_what_was_tried() {
    let service = service("", "ssh: { user: ec2-user }\n");
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    fs::write(&there, "x").unwrap();
    let here = folder.path().join("here");
    let copy = |args: &[&str]| {
        let (from, to) = (remote(&there), text(&here).to_owned());
        let all: Vec<&str> = ["--via", "sftp"]
            .iter()
            .chain(args)
            .copied()
            .chain([from.as_str(), to.as_str()])
            .collect();
        run(&service, &all)
    };
    fail(
        &copy(&[]),
        7,
        &[
            "does not let `ec2-user` in",
            "no SSH key was found",
            "--instance-connect",
        ],
    );
    let key = |name: &str, passphrase: &str| {
        let path = folder.path().join(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ecdsa", "-N", passphrase, "-f", text(&path)])
            .status()
            .unwrap();
        assert!(made.success());
        path
    };
    let (plain, locked) = (key("plain", ""), key("locked", "secret"));
    fail(
        &copy(&["-i", text(&plain)]),
        7,
        &["it took none of: key file `", "plain`"],
    );
    fail(
        &copy(&["-i", text(&locked)]),
        2,
        &[
            "encrypted with a passphrase",
            "ssh-add",
            "--instance-connect",
        ],
    );
    let state = service.home().join(format!("sandbox/instances/{WEB_1}"));
    fs::copy(plain.with_extension("pub"), state.join("authorized_keys")).unwrap();
    succeed(&copy(&["-i", text(&plain)]));
    assert_eq!(fs::read(&here).unwrap(), b"x");
}

#[test]
fn a_server_without_sshd_and_a_user_without_sudo_are_said() {
    let service = service("", CONNECT);
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    fs::write(&there, "x").unwrap();
    service.change_instance("", r#"{"name": "mute", "ports": {"22": "closed"}}"#);
    let from = format!("mute:{}", there.display());
    let output = run(&service, &["--via", "sftp", &from, text(folder.path())]);
    fail(
        &output,
        7,
        &[
            "no SSH server answers on port 22 of `mute`",
            "connection refused",
            "--via session",
        ],
    );
    let from = format!("nobody@web-1:{}", there.display());
    let output = run(&service, &["--via", "sftp", &from, text(folder.path())]);
    // Whether sudo is there or not, it does not become that user without being allowed to.
    fail(&output, 7, &["as `nobody` with sudo -n"]);
    no_sessions(&service);
}

#[test]
fn what_is_denied_is_gone_round_once_or_said_with_the_statement() {
    let denied = "deny=ssm:StartSession/AWS-StartNonInteractiveCommand";
    let service = service(denied, &format!("{CONNECT}{BUCKET}"));
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    fs::write(&there, "x").unwrap();
    let here = folder.path().join("here");
    let copy = |args: &[&str]| {
        let (from, to) = (remote(&there), text(&here).to_owned());
        let all: Vec<&str> = args
            .iter()
            .copied()
            .chain([from.as_str(), to.as_str()])
            .collect();
        run(&service, &all)
    };
    let output = copy(&[]);
    succeed(&output);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.matches("going by sftp instead").count(), 1, "{said}");
    for via in ["session", "s3"] {
        let statement =
            r#""Action":"ssm:StartSession","Resource":["arn:aws:ec2:eu-west-1:*:instance/"#;
        fail(
            &copy(&["--via", via]),
            5,
            &[statement, "document/AWS-StartNonInteractiveCommand\""],
        );
    }
    service.set_faults("deny=ssm:StartSession/AWS-StartSSHSession");
    fail(
        &copy(&["--via", "sftp"]),
        5,
        &["document/AWS-StartSSHSession\"]}"],
    );
    service.set_faults("deny=s3:PutObject");
    fail(&copy(&["--via", "s3"]), 8, &["403"]);
    no_objects(&service.home().join("sandbox"));

    service.set_faults("");
    write_profile(
        &service,
        &format!("{CONNECT}copy: {{ deny_via: [session, s3], s3_bucket: ops-sandbox-copies }}\n"),
    );
    let output = copy(&["-v"]);
    succeed(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("by sftp"));
    fail(
        &copy(&["--via", "session"]),
        9,
        &["the profile forbids transport `session`"],
    );
    fail(
        &copy(&["--via", "s3"]),
        9,
        &["the profile forbids transport `s3`"],
    );
}

#[test]
fn only_large_files_take_the_way_over_the_bucket_where_it_is_not_asked_for() {
    let copy = "copy: { s3_bucket: ops-sandbox-copies, s3_above: 1MiB }\n";
    let service = service("", copy);
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    fs::create_dir(&here).unwrap();
    fs::write(here.join("large"), noise(1_500_000)).unwrap();
    fs::write(here.join("small"), "x").unwrap();
    succeed(&run(&service, &["-rp", text(&here), &remote(&there)]));
    same_trees(&here, &there);
    let puts = |service: &Service| {
        let calls = service.calls();
        calls.iter().filter(|call| *call == "PutObject").count()
    };
    assert_eq!(puts(&service), 1);
    // Without the bucket it goes all the same.
    let missing = copy.replace("ops-sandbox-copies", "no-such-bucket");
    write_profile(&service, &missing);
    let output = run(
        &service,
        &["-rp", &remote(&there), text(&folder.path().join("back"))],
    );
    succeed(&output);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        said.matches("going by session instead").count(),
        1,
        "{said}"
    );
    same_trees(&here, &folder.path().join("back"));
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

/// The usual server, where it is installed.
fn sshd() -> Option<PathBuf> {
    let named = std::env::var_os("OPS_TEST_SSHD").map(PathBuf::from);
    let path = named.unwrap_or_else(|| "/usr/sbin/sshd".into());
    path.is_file().then_some(path)
}

/// Answers connections with one `sshd` each, as inetd would, so that there is no port to choose and no daemon to stop.
fn serve_sshd(sshd: PathBuf, config: PathBuf) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (input, output) = (stream.try_clone().unwrap(), stream);
            let child = Command::new(&sshd)
                .args(["-i", "-e", "-f", text(&config)])
                .stdin(std::os::fd::OwnedFd::from(input))
                .stdout(std::os::fd::OwnedFd::from(output))
                .stderr(Stdio::null())
                .spawn();
            std::thread::spawn(move || child.unwrap().wait());
        }
    });
    port
}

#[test]
fn a_tree_goes_there_and_back_by_the_usual_sshd() {
    let Some(sshd) = sshd() else {
        println!("there is no sshd here");
        return;
    };
    let service = service("", "");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for name in ["host", "login"] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f", text(&file(name))])
            .status()
            .unwrap();
        assert!(made.success());
    }
    let config = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n",
        text(&file("host")),
        text(&file("login.pub"))
    );
    fs::write(file("sshd_config"), config).unwrap();
    let port = serve_sshd(sshd, file("sshd_config"));
    service.change_instance(
        "",
        &format!(r#"{{"name": "usual", "ports": {{"22": "127.0.0.1:{port}"}}}}"#),
    );
    let me = Command::new("id").arg("-un").output().unwrap().stdout;
    let me = String::from_utf8(me).unwrap();
    let profile = format!(
        "ssh: {{ user: {}, identity_file: {} }}\n",
        me.trim(),
        text(&file("login"))
    );
    write_profile(&service, &profile);
    let (here, there, back) = (file("here"), file("there"), file("back"));
    fs::create_dir(&here).unwrap();
    plant(&here);
    let remote = format!("usual:{}", there.display());
    succeed(&run(
        &service,
        &["--via", "sftp", "-rp", text(&here), &remote],
    ));
    same_trees(&here, &there);
    succeed(&run(
        &service,
        &["--via", "sftp", "-rp", &remote, text(&back)],
    ));
    same_trees(&here, &back);
    // It cannot be written, with the words of this server.
    let output = run(
        &service,
        &["--via", "sftp", text(&file("login")), "usual:/proc/none"],
    );
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    no_sessions(&service);
}
