//! External commands: found, run, listed, and kept from taking a name.

use std::path::Path;

use ops_test_needs::needs;
use ops_tests::Lab;

/// A lab whose PATH begins with a folder for plugins.
fn lab() -> Lab {
    let lab = Lab::new();
    let path = format!("{}:/usr/bin:/bin", lab.home().join("bin").display());
    lab.env("PATH", path)
}

#[test]
fn arguments_stdin_and_status_pass_through() {
    let lab = lab();
    lab.write_program(
        "bin/ops-echo",
        "#!/bin/sh\nfor a in \"$@\"; do echo \"<$a>\"; done\ncat\nexit 42\n",
    );
    let done = lab
        .ops(["echo", "a b", "-p", "--region", "ünï✓", "--", "-h"])
        .stdin("in\n")
        .output()
        .exits(42);
    assert_eq!(
        done.stdout,
        "<a b>\n<-p>\n<--region>\n<ünï✓>\n<-->\n<-h>\nin\n"
    );
    assert_eq!(done.stderr, "");
}

#[test]
fn the_longest_name_wins() {
    let lab = lab();
    lab.write_program("bin/ops-db", "#!/bin/sh\necho db \"$@\"\n");
    lab.write_program("bin/ops-db-dump", "#!/bin/sh\necho db-dump \"$@\"\n");
    assert_eq!(
        lab.ops(["db", "dump", "x"]).output().success().stdout,
        "db-dump x\n"
    );
    assert_eq!(
        lab.ops(["db-dump", "x"]).output().success().stdout,
        "db-dump x\n"
    );
    assert_eq!(
        lab.ops(["db", "list"]).output().success().stdout,
        "db list\n"
    );
}

#[test]
fn a_built_in_cannot_be_replaced_but_its_shadow_can_be_run() {
    let lab = lab();
    lab.write_program("bin/ops-version", "#!/bin/sh\necho mine\n");
    assert_eq!(
        lab.ops(["version"]).output().success().stdout,
        format!("ops {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(
        lab.ops(["plugin", "run", "version"])
            .output()
            .success()
            .stdout,
        "mine\n"
    );
    let done = lab.ops(["plugin", "list"]).output().success();
    assert!(
        done.stderr.contains("hidden by the built-in `version`"),
        "{done}"
    );
}

#[test]
fn the_working_directory_and_what_is_no_program_are_never_run() {
    let lab = lab();
    let here = lab.write_program("here/ops-evil", "#!/bin/sh\necho evil\n");
    let here = here.parent().expect("a folder").to_owned();
    let path = format!(".::relative:{}", lab.home().join("bin").display());
    lab.ops(["evil"])
        .current_dir(&here)
        .env("PATH", &path)
        .output()
        .exits(2);
    lab.write("bin/ops-text", "not a program");
    std::fs::create_dir_all(lab.home().join("bin/ops-folder")).expect("a folder");
    lab.ops(["text"]).output().exits(2);
    lab.ops(["folder"]).output().exits(2);
    let done = lab.ops(["plugin", "list"]).output().success();
    assert!(done.stderr.contains("text: not executable"), "{done}");
    assert!(!done.stdout.contains("folder"), "{done}");
}

#[test]
fn a_broken_first_line_is_named() {
    let lab = lab();
    lab.write_program("bin/ops-broken", "#!/no/such/interpreter\n");
    let done = lab.ops(["broken"]).output().exits(127);
    assert!(done.stderr.contains("interpreter"), "{done}");
}

#[test]
fn a_plugin_killed_by_a_signal_ends_as_one() {
    let lab = lab();
    lab.write_program("bin/ops-die", "#!/bin/sh\nkill -TERM $$\n");
    // The process was the plugin's own: its parent sees the signal itself.
    assert_eq!(lab.ops(["die"]).output().status, 143);
}

#[test]
fn the_environment_tells_what_was_settled_and_no_secret() {
    let lab = lab();
    lab.profile(
        "team",
        "aws: { region: eu-west-1, profile: team-aws }\nguard: { protect: true }\n",
    );
    lab.write_program(
        "bin/ops-told",
        "#!/bin/sh\nenv | grep -E '^(OPS|AWS)_' | sort\ncat \"$OPS_CONTEXT\"\n",
    );
    let done = lab
        .ops(["-p", "team", "-v", "-o", "json", "told"])
        .output()
        .success();
    let value = |name: &str| {
        let line = done
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or("-").to_owned()
    };
    assert_eq!(value("OPS_API"), "1");
    assert_eq!(value("OPS_VERSION"), env!("CARGO_PKG_VERSION"));
    assert!(Path::new(&value("OPS_BIN")).is_absolute());
    assert_eq!(value("OPS_PROFILE"), "team");
    assert_eq!(value("OPS_REGION"), "eu-west-1");
    assert_eq!(value("OPS_OUTPUT"), "json");
    assert_eq!(value("OPS_VERBOSE"), "1");
    assert_eq!(value("AWS_PROFILE"), "team-aws");
    assert_eq!(value("AWS_REGION"), "eu-west-1");
    let context: serde_json::Value =
        serde_json::from_str(done.stdout.lines().last().unwrap_or_default())
            .expect("OPS_CONTEXT is JSON");
    assert_eq!(context["resolved"]["guard"]["protect"], true, "{context}");
    assert!(
        !Path::new(&value("OPS_CONTEXT")).exists() || value("OPS_CONTEXT").starts_with("/dev/fd/")
    );
}

#[test]
fn a_plugin_of_our_folder_says_what_it_is_and_one_on_path_is_not_asked() {
    let lab = lab();
    let info = r#"{"apiVersion":"ops.plugin/v1","about":"dumps a database","version":"1.2"}"#;
    lab.write_program(
        ".local/share/ops/plugins/bin/ops-dump",
        &format!("#!/bin/sh\n[ \"$1\" = --ops-plugin-info ] && echo '{info}' || echo ran\n"),
    );
    let mark = lab.home().join("asked");
    lab.write_program(
        "bin/ops-old",
        &format!("#!/bin/sh\ntouch {}\n", mark.display()),
    );
    let done = lab.ops(["plugin", "list"]).output().success();
    assert!(
        done.stdout.contains("dumps a database") && done.stdout.contains("1.2"),
        "{done}"
    );
    assert!(!mark.exists(), "a plugin on PATH was run");
    let help = lab.ops(["-h"]).output().success().stdout;
    assert!(
        help.contains("\nPlugins:\n  dump  dumps a database\n  old\n"),
        "{help}"
    );
    assert_eq!(lab.ops(["dump"]).output().success().stdout, "ran\n");
}

#[test]
fn another_major_version_is_refused_with_both_named() {
    let lab = lab();
    lab.write_program(
        ".local/share/ops/plugins/bin/ops-next",
        "#!/bin/sh\necho '{\"apiVersion\":\"ops.plugin/v2\"}'\n",
    );
    let done = lab.ops(["next"]).output().exits(127);
    assert!(
        done.stderr.contains("ops.plugin/v2") && done.stderr.contains("ops.plugin/v1"),
        "{done}"
    );
}

#[test]
fn a_plugin_that_hangs_when_asked_is_listed_all_the_same() {
    let lab = lab();
    lab.write_program(
        ".local/share/ops/plugins/bin/ops-slow",
        "#!/bin/sh\nexec sleep 600\n",
    );
    let done = lab.ops(["plugin", "list"]).output().success();
    assert!(done.stdout.contains("\nslow "), "{done}");
}

/// A lab with a sandbox of its own, whose PATH begins with the worked plugins of docs.
fn with_worked_plugins() -> Lab {
    let lab = Lab::with_sandbox();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/plugins");
    lab.env(
        "PATH",
        format!("{}:/usr/local/bin:/usr/bin:/bin", path.display()),
    )
}

#[test]
fn the_worked_plugin_in_sh_runs_on_every_server() {
    let lab = with_worked_plugins();
    let done = lab.ops(["disk", "web-1", "web-2"]).output().success();
    for name in ["web-1", "web-2"] {
        let of_server = |line: &&str| line.starts_with(name) && line.contains('%');
        assert_eq!(
            done.stdout.lines().filter(of_server).count(),
            1,
            "{}",
            done.stdout
        );
    }
    let usage = lab.ops(["disk"]).output().exits(2);
    assert_eq!(usage.stderr, "usage: ops disk TARGET...\n");
    let names = lab.ops(["disk", "__complete", "web-"]).output().success();
    assert!(
        names.stdout.lines().any(|name| name == "web-2"),
        "{}",
        names.stdout
    );
}

#[test]
fn the_worked_plugin_in_python_talks_to_a_port() {
    needs!("python3");
    let lab = with_worked_plugins();
    let done = lab.ops(["banner", "web-1", "22"]).output().success();
    assert!(
        done.stdout.starts_with("web-1:22 SSH-2.0-"),
        "{}",
        done.stdout
    );
    let gone = lab.ops(["banner", "nosuch", "22"]).output().exits(3);
    assert!(gone.stderr.contains("nosuch"), "{}", gone.stderr);
}

#[test]
fn programs_resolve_and_reach_servers() {
    let lab = Lab::with_sandbox();
    let found = lab
        .ops(["api", "resolve", "web-1"])
        .output()
        .success()
        .json();
    assert_eq!(found["apiVersion"], "ops.api/v1");
    assert_eq!(found["id"], "i-0a1b2c3d4e5f60718");
    assert_eq!(found["tags"]["Team"], "web");
    lab.ops(["api", "resolve", "web-*"]).output().exits(6);
    lab.ops(["api", "resolve", "nosuch"]).output().exits(3);

    // The server's own words first, then ours to it: both ways, byte for byte.
    let done = lab.ops(["api", "connect", "web-1", "22"]);
    let done = done.stdin("SSH-2.0-check\r\n").output();
    assert!(done.stdout.starts_with("SSH-2.0-"), "{}", done.stdout);

    let strict = lab.profile("strict", "guard: {deny: [ssh]}\n");
    assert!(strict.exists());
    let refused = lab.ops(["-p", "strict", "api", "connect", "web-1", "22"]);
    let refused = refused.output().exits(9);
    assert_eq!(refused.stdout, "");
}
