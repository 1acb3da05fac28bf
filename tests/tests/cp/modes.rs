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
