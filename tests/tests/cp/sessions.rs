//! How many sessions a copy takes: an account may start three a second.

use ops_tests::service::Service;

use super::*;

fn start() -> Service {
    Service::start(env!("CARGO_BIN_EXE_ops-under-test"), "")
}

/// Runs `ops cp` with `args`, which ends well; gives the sessions that it has started.
#[track_caller]
fn sessions_of(service: &Service, args: &[&OsStr]) -> usize {
    let started = |service: &Service| {
        let calls = service.calls();
        calls.iter().filter(|call| *call == "StartSession").count()
    };
    let before = started(service);
    let output = service.ops(&["cp"]).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    started(service) - before
}

#[test]
fn a_small_copy_takes_two_sessions_at_most() {
    let service = start();
    let root = service.home().join("copied");
    for n in 0..12 {
        put(
            &root,
            format!("t/d{}/f{n}", n % 3).as_bytes(),
            &noise(n * 500),
            0o644,
        );
    }
    // Neither small nor worth a session of its own.
    put(&root, b"t/middle", &noise(900_000), 0o644);
    put(&root, b"t/other", &noise(1_400_000), 0o644);
    symlink("d0/f0", root.join("t/link")).unwrap();
    put(&root, b"file", b"one file", 0o644);
    put(&root, b"web-2/x", b"there", 0o644);
    let (file, tree) = (root.join("file"), root.join("t"));
    let to_folder = |name: &str| {
        let path = root.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (up, down) = (to_folder("up"), to_folder("down"));
    let recursive = [os("-r")];
    let compared = [os("-r"), os("--checksum")];
    let resumed = [os("-rp"), os("--resume")];
    let plain: [OsString; 0] = [];
    let cases: [(&str, &[OsString], OsString, OsString); 10] = [
        ("a file up", &plain, file.clone().into(), remote(&up)),
        (
            "a file up over itself",
            &plain,
            file.clone().into(),
            remote(&up),
        ),
        ("a file down", &plain, remote(&file), down.clone().into()),
        ("a folder up", &recursive, tree.clone().into(), remote(&up)),
        (
            "a folder down",
            &recursive,
            remote(&tree),
            down.clone().into(),
        ),
        (
            "a folder up, compared",
            &compared,
            tree.clone().into(),
            remote(&up),
        ),
        (
            "a folder down, compared",
            &compared,
            remote(&tree),
            down.clone().into(),
        ),
        (
            "a folder up, resumed",
            &resumed,
            tree.clone().into(),
            remote(&to_folder("up-2")),
        ),
        (
            "a glob down",
            &plain,
            remote(&root.join("t/d0/*")),
            down.clone().into(),
        ),
        (
            "a list alone",
            &[os("-r"), os("--dry-run")],
            remote(&tree),
            down.clone().into(),
        ),
    ];
    for (what, options, from, to) in cases {
        let args: Vec<&OsStr> = options
            .iter()
            .chain([&from, &to])
            .map(OsString::as_os_str)
            .collect();
        let count = sessions_of(&service, &args);
        assert!((1..=2).contains(&count), "{what}: {count} sessions");
    }
    same(&tree, &down.join("t"));
    same(&tree, &up.join("t"));
    same(&tree, &root.join("up-2/t"));
}

#[test]
fn a_small_copy_takes_two_sessions_by_any_document_and_with_any_agent() {
    // Agents that join the output of a command, whatever they are asked for. The list of agents is
    // not asked for the version of a server of EC2.
    for (faults, document) in [
        ("", Some("Sandbox-CommandSeparated")),
        ("", Some("Sandbox-CommandPlain")),
        ("agent-version=3.0.1124.0", None),
        ("agent-version=3.1.1188.0", None),
        ("agent-version=3.1.1188.0", Some("Sandbox-CommandSeparated")),
        // What a document does that may not be read shows by its use.
        ("deny=ssm:GetDocument", Some("Sandbox-CommandSeparated")),
    ] {
        let service = Service::start(env!("CARGO_BIN_EXE_ops-under-test"), faults);
        let root = service.home().join("copied");
        put(&root, b"file", &noise(3_000), 0o644);
        let profiles = service.home().join(".config/ops/profiles");
        fs::create_dir_all(&profiles).unwrap();
        let mut options = Vec::new();
        if let Some(document) = document {
            let profile = format!("copy: {{ document: {document} }}\n");
            fs::write(profiles.join("t.yaml"), profile).unwrap();
            options = vec![os("--profile"), os("t")];
        }
        let (file, up, down) = (root.join("file"), root.join("up"), root.join("down"));
        let copies = [
            (file.clone().into_os_string(), remote(&up)),
            (remote(&file), down.clone().into_os_string()),
        ];
        for (from, to) in copies {
            let arguments = options.iter().chain([&from, &to]);
            let arguments: Vec<&OsStr> = arguments.map(OsString::as_os_str).collect();
            let count = sessions_of(&service, &arguments);
            // From a server the first command tries the parameter for separated output: a call
            // more, which this document refuses, and no session.
            let is_refused = faults.starts_with("deny") && from != file.as_os_str();
            assert!(
                count <= 2 + usize::from(is_refused),
                "{faults} {document:?} {from:?}: {count} sessions"
            );
            if is_refused {
                // The next copy knows.
                fs::remove_file(&down).unwrap();
                let count = sessions_of(&service, &arguments);
                assert!(count <= 2, "{document:?} once more: {count} sessions");
            }
        }
        for copy in [up, down] {
            assert_eq!(
                fs::read(copy).unwrap(),
                noise(3_000),
                "{faults} {document:?}"
            );
        }
    }
}

#[test]
fn a_copy_to_and_from_a_fleet_takes_two_sessions_for_each_server() {
    let service = start();
    let root = service.home().join("copied");
    put(&root, b"file", b"one file", 0o644);
    let there = |target: &str, name: &str| {
        let mut place = OsString::from(format!("{target}:"));
        place.push(root.join(name));
        place
    };
    let (up, down) = (there("web-*", "there"), root.join("down"));
    let file = root.join("file").into_os_string();
    let count = sessions_of(&service, &[&file, &up]);
    fs::create_dir(&down).unwrap();
    let back = sessions_of(&service, &[&there("web-*", "there"), down.as_os_str()]);
    let servers = fs::read_dir(&down).unwrap().count();
    assert!(servers >= 2, "{servers}");
    assert!(
        count <= 2 * servers,
        "{count} sessions to {servers} servers"
    );
    assert!(back <= 2 * servers, "{back} sessions to {servers} servers");

    let between = sessions_of(&service, &[&there("web-1", "file"), &there("web-2", "got")]);
    assert!(between <= 4, "{between} sessions to two servers");
    assert_eq!(fs::read(root.join("got")).unwrap(), b"one file");
}

/// What came of an archive is whole, and only what is left of it travels again.
#[test]
fn what_a_lost_archive_has_left_comes_in_another_one() {
    let service = start();
    let tree = service.home().join("copied/t");
    // Each its own bytes: compressed they are no fewer.
    for (n, bytes) in noise(300 * 12_000).chunks(12_000).enumerate() {
        put(&tree, format!("d{}/f{n}", n % 3).as_bytes(), bytes, 0o644);
    }
    let back = service.home().join("back");
    fs::create_dir_all(&back).unwrap();
    // The service closes the sessions of the copy, again and again.
    service.set_faults("end-after=600,first=6");
    let (flags, from) = (os("-rp"), remote(&tree));
    let begun = sessions_of(&service, &[&*flags, &*from, back.as_os_str()]);
    same(&tree, &back.join("t"));
    assert!(
        (5..30).contains(&begun),
        "{begun} sessions for 300 files and six that were closed"
    );
}
