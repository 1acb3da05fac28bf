//! What becomes of the modes of folders that are sent.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use ops_test_needs::needs;

use crate::scene::{remote, run, service, succeed, text};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_new_folder_gets_its_mode_when_it_is_full_and_one_that_is_there_keeps_its_own() {
    needs!("curl");
    let service = service(
        "",
        "ssh: { user: ec2-user, auth: instance-connect }\ncopy: { s3_bucket: ops-sandbox-copies }\n",
    );
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, mode) in [("t", 0o755), ("t/sealed", 0o555), ("t/inner", 0o500)] {
        fs::DirBuilder::new()
            .mode(0o755)
            .create(path(name))
            .unwrap();
        fs::write(path(name).join("file"), name).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(path("plain")).unwrap();
    let umask = 0o777 & !mode(&path("plain"));
    for via in ["session", "sftp", "s3"] {
        let there = path(via);
        fs::create_dir(&there).unwrap();
        let (from, to) = (path("t"), remote(&there));
        let args = ["--via", via, "-r", text(&from), &to];
        succeed(&run(&service, &args));
        for (name, wanted) in [("t", 0o755), ("t/sealed", 0o555), ("t/inner", 0o500)] {
            assert_eq!(mode(&there.join(name)), wanted & !umask, "{name} by {via}");
            let file = there.join(name).join("file");
            assert_eq!(fs::read_to_string(file).unwrap(), name);
        }
        // Once more, into what is there by now.
        let open = fs::Permissions::from_mode(0o711);
        fs::set_permissions(there.join("t/sealed"), open.clone()).unwrap();
        fs::set_permissions(there.join("t/inner"), open).unwrap();
        succeed(&run(&service, &args));
        assert_eq!(mode(&there.join("t/sealed")), 0o711, "by {via}");
        assert_eq!(mode(&there.join("t/inner")), 0o711, "by {via}");
    }
    // So that it can be removed.
    for root in ["t", "session/t", "sftp/t", "s3/t"] {
        for name in ["sealed", "inner"] {
            let path = path(root).join(name);
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}
