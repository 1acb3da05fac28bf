//! What others could change is not trusted, and a slip does not drop a guard.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use ops_tests::Lab;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}

#[test]
fn a_profile_that_others_may_write_is_refused_with_the_command_that_mends_it() {
    let lab = Lab::new();
    let base = lab.profile("base", "aws: { region: eu-west-1 }\n");
    let team = lab.profile("team", "extends: base\n");
    let folder = team.parent().expect("a folder");
    let show = || lab.ops(["-p", "team", "config", "show"]).output();
    // umask 002, with a group of the user's own.
    mode(&team, 0o664);
    mode(folder, 0o775);
    show().success();
    for (path, broken, whole) in [
        (team.as_path(), 0o666, 0o644),
        (base.as_path(), 0o646, 0o644),
        (folder, 0o777, 0o755),
        (folder, 0o1777, 0o755),
    ] {
        mode(path, broken);
        let done = show().exits(2);
        let shown = path
            .to_string_lossy()
            .replace(&*lab.home().to_string_lossy(), "~");
        assert!(
            done.stderr.contains("everybody may write")
                && done.stderr.contains(&format!("chmod o-w {shown}")),
            "{done}"
        );
        mode(path, whole);
        show().success();
    }
    // The user's own file says what holds under every profile.
    let own = lab.write(".config/ops/config.yaml", "region: eu-west-1\n");
    mode(&own, 0o666);
    show().exits(2);
}

#[test]
fn a_profile_or_plugin_of_another_user_or_group_is_refused() {
    ops_test_needs::needs_root!();
    let lab = Lab::new();
    let team = lab.profile("team", "aws: { region: eu-west-1 }\n");
    let show = || lab.ops(["-p", "team", "config", "show"]).output();
    chown(&team, None, Some(65_533)).expect("a group");
    show().success();
    mode(&team, 0o664);
    let done = show().exits(2);
    assert!(
        done.stderr.contains("group 65533") && done.stderr.contains("chmod g-w"),
        "{done}"
    );
    mode(&team, 0o644);
    chown(&team, Some(65_533), None).expect("an owner");
    let done = show().exits(2);
    assert!(done.stderr.contains("the user 65533"), "{done}");
}

#[test]
fn a_plugin_that_others_may_write_is_listed_and_not_run() {
    let lab = Lab::new();
    let path = format!("{}:/usr/bin:/bin", lab.home().join("bin").display());
    let lab = lab.env("PATH", path);
    let mark = lab.home().join("ran");
    let script = format!("#!/bin/sh\ntouch {}\n", mark.display());
    let plugin = lab.write_program("bin/ops-mine", &script);
    let managed = lab.write_program(".local/share/ops/plugins/bin/ops-other", &script);
    mode(&plugin, 0o777);
    mode(&managed, 0o777);
    let done = lab.ops(["mine"]).output().exits(9);
    assert!(
        done.stderr.contains("everybody may write the file")
            && done.stderr.contains("chmod o-w ~/bin/ops-mine"),
        "{done}"
    );
    lab.ops(["plugin", "run", "mine"]).output().exits(9);
    lab.ops(["other"]).output().exits(9);
    // A warning is no failure; and whoever lies in our own folder is not asked about itself either.
    let done = lab.ops(["plugin", "list"]).output().success();
    assert!(
        done.stderr.contains("mine: not run: everybody may write"),
        "{done}"
    );
    assert!(!mark.exists());
    mode(&plugin, 0o775);
    lab.ops(["mine"]).output().success();
    assert!(mark.exists());
    mode(plugin.parent().expect("a folder"), 0o777);
    lab.ops(["mine"]).output().exits(9);
}

#[test]
fn a_profile_flag_with_nothing_behind_it_is_no_way_around_a_guard() {
    let lab = Lab::new();
    lab.profile("prod", "guard: { deny: [shell] }\n");
    let lab = lab.env("OPS_PROFILE", "prod");
    lab.ops(["--sandbox", "shell", "web-1"]).output().exits(9);
    for words in [
        &["-p", "", "--sandbox", "shell", "web-1"][..],
        &["--sandbox", "shell", "--profile=", "web-1"],
        &["--sandbox", "--aws-profile", " ", "shell", "web-1"],
    ] {
        let done = lab.ops(words).output().exits(2);
        assert!(
            done.stderr.contains("names no profile") && done.stderr.contains("env -u OPS_"),
            "{done}"
        );
    }
    // A variable that is set to nothing is one that is not set, in every shell.
    lab.ops(["config", "show"])
        .env("OPS_PROFILE", "")
        .output()
        .success();
}

#[test]
fn an_endpoint_without_tls_has_to_be_meant() {
    let lab = Lab::new();
    lab.profile(
        "plain",
        "aws:\n  region: eu-west-1\n  endpoints: { ec2: \"http://192.0.2.1:5000\" }\n",
    );
    let done = lab.ops(["-p", "plain", "ls"]).output().exits(2);
    assert!(
        done.stderr.contains("`192.0.2.1` is plain http")
            && done.stderr.contains("allow_plain_http: true"),
        "{done}"
    );
    let keys = |run: ops_tests::lab::Run<'_>| {
        run.env("AWS_ACCESS_KEY_ID", "AKIA0000000000000000")
            .env("AWS_SECRET_ACCESS_KEY", "x")
            .env("AWS_REGION", "eu-west-1")
            .output()
    };
    let done = keys(
        lab.ops(["ls"])
            .env("AWS_ENDPOINT_URL", "http://192.0.2.1:5000"),
    )
    .exits(2);
    assert!(done.stderr.contains("plain http"), "{done}");
    // Of the AWS configuration files only the SDK knows.
    let file = lab.write("aws", "[default]\nendpoint_url = http://192.0.2.1:5000\n");
    let done = keys(lab.ops(["ls"]).env("AWS_CONFIG_FILE", &file)).exits(2);
    assert!(done.stderr.contains("plain http"), "{done}");
}

#[test]
fn without_a_home_folder_in_the_environment_the_user_database_is_asked() {
    let lab = Lab::new();
    // What a shell makes of `~NAME` is what the user database says, whatever HOME is.
    let home = lab
        .run("sh", ["-c", "eval printf %s ~$(id -un)"])
        .output()
        .success()
        .stdout;
    let path = |home: Option<&str>| {
        let run = lab.ops(["config", "path", "-o", "json"]);
        let run = match home {
            Some(home) => run.env("HOME", home),
            None => run.without("HOME"),
        };
        let run = ["CONFIG", "CACHE", "STATE", "DATA"]
            .iter()
            .fold(run, |run, name| run.without(&format!("XDG_{name}_HOME")));
        let done = run.current_dir(lab.home()).output().success();
        done.json()["files"][0]["path"].as_str().map(str::to_owned)
    };
    let expected = format!("{home}/.config/ops/config.yaml");
    assert_eq!(path(None).as_ref(), Some(&expected));
    // An empty one is none, and not the root of the file system.
    assert_eq!(path(Some("")).as_ref(), Some(&expected));
    // A relative one would have settings read from the working directory.
    for relative in ["here", "."] {
        let path = path(Some(relative)).expect("a path");
        assert!(path.starts_with("/.config"), "{relative}: {path}");
    }
}
