//! Modes of what is made and of what is replaced.

use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn an_interrupted_copy_leaves_folders_as_they_should_be() {
    let lab = Lab::with_sandbox();
    let far = lab.folder("far");
    put(&far, b"t/sub/big", &noise(6_000_000), 0o644);
    for n in 0..30 {
        put(
            &far,
            format!("t/few/f{n}").as_bytes(),
            &noise(150_000),
            0o644,
        );
    }
    for (name, mode) in [("t", 0o777), ("t/sub", 0o711), ("t/few", 0o777)] {
        fs::set_permissions(far.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let plain = mode(&lab.folder("plain"));
    // One large file under way, then files of an archive.
    for (name, begun) in [("t/sub", "sub"), ("t/few", "few")] {
        for preserve in ["-r", "-rp"] {
            let here = lab.folder(&format!("{begun}{preserve}"));
            let to = here.join("got");
            let args = [
                os(preserve),
                os("--limit-rate"),
                os("1MB"),
                remote(&far.join(name)),
                to.clone().into(),
            ];
            interrupt(&lab, &args, &|| {
                has_part(&to) || to.join("f0").exists() || to.join("f29").exists()
            });
            let wanted = match preserve {
                "-rp" => mode(&far.join(name)),
                _ => mode(&far.join(name)) & plain,
            };
            assert_eq!(mode(&to), wanted, "{name} {preserve}");
            assert_eq!(leftovers(&to).len(), 0);
        }
    }
}

#[test]
fn a_file_that_is_replaced_keeps_its_mode_however_it_travels() {
    let lab = Lab::with_sandbox();
    let (one, other) = (lab.folder("one"), lab.folder("other"));
    let names: Vec<String> = (0..12).map(|n| format!("t/d/f {n}")).collect();
    for (n, name) in names.iter().enumerate() {
        put(&one, name.as_bytes(), b"new", 0o600);
        if n % 3 != 0 {
            put(&other, name.as_bytes(), b"old", 0o640 + n as u32 % 3);
        }
    }
    // A link below what is named is replaced, and what lies behind it is left alone.
    put(&other, b"behind", b"old", 0o666);
    fs::remove_file(other.join(&names[1])).unwrap();
    symlink("../../behind", other.join(&names[1])).unwrap();
    let check = |folder: &Path| {
        for (n, name) in names.iter().enumerate() {
            let path = folder.join(name);
            assert_eq!(fs::read(&path).unwrap(), b"new", "{name}");
            let wanted = match n {
                n if n % 3 != 0 && n != 1 => 0o640 + n as u32 % 3,
                _ => 0o600,
            };
            assert_eq!(mode(&path), wanted, "{name}");
        }
        assert!(!folder.join(&names[1]).is_symlink());
        assert_eq!(fs::read(folder.join("behind")).unwrap(), b"old");
        assert_eq!(mode(&folder.join("behind")), 0o666);
    };
    let copy = lab.folder("copy");
    let all: Vec<OsString> = vec![os("-a"), other.join(".").into(), copy.clone().into()];
    lab.run("/bin/cp", all).output().success();
    cp(&lab, [os("-r"), one.join("t").into(), remote(&other)]).success();
    check(&other);
    cp(
        &lab,
        [os("-r"), remote(&one.join("t")), copy.clone().into()],
    )
    .success();
    check(&copy);
    // With -p the new mode counts.
    cp(&lab, [os("-rp"), one.join("t").into(), remote(&copy)]).success();
    for name in &names {
        assert_eq!(mode(&fs::canonicalize(copy.join(name)).unwrap()), 0o600);
    }
    assert_eq!((leftovers(&other), leftovers(&copy)), (vec![], vec![]));
}
