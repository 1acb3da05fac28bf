//! `--links`: which links are copied, and as what.

use super::*;

use ops_test_needs::needs;

const PROFILE: &str =
    "ssh: { user: ec2-user, auth: instance-connect }\ncopy: { s3_bucket: ops-sandbox-copies }\n";

/// As below /etc/nginx: links within, one that is absolute, one that leads out, and one that does
/// so by way of another.
fn plant(root: &Path) {
    put(root, b"t/available/site", b"site", 0o644);
    put(root, b"elsewhere", b"elsewhere", 0o644);
    fs::create_dir(root.join("t/enabled")).unwrap();
    symlink("../available/site", root.join("t/enabled/site")).unwrap();
    symlink(root.join("elsewhere"), root.join("t/enabled/absolute")).unwrap();
    symlink("../../elsewhere", root.join("t/enabled/outward")).unwrap();
    symlink("enabled/..", root.join("t/top")).unwrap();
    symlink("top/../elsewhere", root.join("t/by-way")).unwrap();
    symlink("nowhere", root.join("t/dangling")).unwrap();
}

/// What a copy of the tree holds: links with their targets, files with their content.
fn found(root: &Path) -> BTreeMap<String, String> {
    tree(root)
        .into_iter()
        .filter(|(path, (kind, ..))| *kind != 'd' && !path.starts_with("available"))
        .map(|(path, (kind, _, content))| {
            let content = String::from_utf8(content).unwrap();
            (path.display().to_string(), format!("{kind} {content}"))
        })
        .collect()
}

fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, what)| ((*name).to_owned(), (*what).to_owned()))
        .collect()
}

fn keeps_what_it_should(via: &str) {
    let lab = Lab::with_sandbox();
    lab.profile("t", PROFILE);
    let from = lab.folder("from");
    plant(&from);
    let absolute = format!("l {}", from.join("elsewhere").display());
    let within = [
        ("dangling", "l nowhere"),
        ("enabled/site", "l ../available/site"),
        ("top", "l enabled/.."),
    ];
    let outward = [
        ("by-way", "l top/../elsewhere"),
        ("enabled/absolute", &absolute[..]),
        ("enabled/outward", "l ../../elsewhere"),
    ];
    let all = expected(&[within, outward].concat());
    for (at, way) in ["up", "down", "across"].into_iter().enumerate() {
        let run = |links: &[&str]| {
            let to = lab.folder(&format!("{way}{}", links.join("")));
            let (source, target) = match way {
                "up" => (from.join("t").into_os_string(), remote(&to)),
                "down" => (remote(&from.join("t")), to.clone().into()),
                _ => {
                    let to = format!("web-2:{}", to.display());
                    (remote(&from.join("t")), to.into())
                }
            };
            let args = ["--profile", "t", "--via", via, "-r"];
            let mut words: Vec<OsString> = args.iter().chain(links).copied().map(os).collect();
            words.extend([source, target]);
            (cp(&lab, words), to.join("t"))
        };
        // The default: a note, and all is well.
        let (done, to) = run(&[]);
        let done = done.success();
        assert_eq!(found(&to), expected(&within), "{way} {done}");
        let notes: Vec<&str> = done
            .stderr
            .lines()
            .filter(|line| line.contains("left out"))
            .collect();
        assert_eq!(notes.len(), 1, "{done}");
        assert!(notes[0].contains("and 2 more links are left out"), "{done}");
        assert!(done.stderr.contains("3 left alone"), "{done}");
        // Everything as it is.
        let (done, to) = run(&["--links", "all"]);
        let done = done.success();
        assert_eq!(found(&to), all, "{way} {done}");
        // None at all.
        let (done, to) = run(&["--links", "skip"]);
        let done = done.success();
        assert_eq!(found(&to), expected(&[]), "{way} {done}");
        assert!(!done.stderr.contains("left out"), "{done}");
        if at > 0 && via == "s3" {
            continue;
        }
        // What they point to. A link to a folder above is not followed for ever, and one to nothing
        // is told of.
        fs::remove_file(from.join("t/top")).unwrap();
        fs::remove_file(from.join("t/by-way")).unwrap();
        fs::remove_file(from.join("t/dangling")).unwrap();
        let (done, to) = run(&["--links", "follow"]);
        let done = done.success();
        let followed = [
            ("enabled/absolute", "f elsewhere"),
            ("enabled/outward", "f elsewhere"),
            ("enabled/site", "f site"),
        ];
        assert_eq!(found(&to), expected(&followed), "{way} {done}");
        for (name, target) in [
            ("top", "enabled/.."),
            ("by-way", "top/../elsewhere"),
            ("dangling", "nowhere"),
        ] {
            symlink(target, from.join("t").join(name)).unwrap();
        }
    }
}

#[test]
fn links_are_kept_as_was_asked_for_by_session() {
    keeps_what_it_should("session");
}

#[test]
fn links_are_kept_as_was_asked_for_by_sftp() {
    keeps_what_it_should("sftp");
}

#[test]
fn links_are_kept_as_was_asked_for_by_way_of_a_bucket() {
    needs!("curl");
    keeps_what_it_should("s3");
}

#[test]
fn a_profile_says_which_links_are_kept_and_the_command_line_outweighs_it() {
    let lab = Lab::with_sandbox();
    lab.profile("t", "copy: { links: skip }\n");
    let (from, to) = (lab.folder("from"), lab.folder("to"));
    plant(&from);
    let run = |args: &[&str]| {
        let mut words: Vec<OsString> = ["--profile", "t", "-r"].map(os).to_vec();
        words.extend(args.iter().copied().map(os));
        words.extend([from.join("t").into_os_string(), remote(&to)]);
        cp(&lab, words)
    };
    run(&[]).success();
    assert!(!to.join("t/dangling").is_symlink());
    run(&["--links", "safe"]).success();
    assert!(to.join("t/dangling").is_symlink());
    assert!(!to.join("t/enabled/absolute").is_symlink());
    // What says the contrary is told so.
    for args in [["-L", "--links"], ["-P", "--links"]] {
        let done = run(&[args[0], args[1], "follow"]).exits(2);
        assert!(done.stderr.contains("--links"), "{done}");
    }
    let done = run(&["--links", "some"]).exits(2);
    for value in ["safe", "all", "skip", "follow"] {
        assert!(done.stderr.contains(value), "{done}");
    }
    // A link that is left out is one of the items of a document.
    let done = run(&["--links", "safe", "-o", "json", "--dry-run"]).success();
    assert!(done.stdout.contains("\"an absolute link\""), "{done}");
    assert!(
        done.stdout
            .contains("\"a link that leads out of what is copied\"")
    );
}
