//! The embedded stand-in under a command.

use ops_tests::Lab;

#[test]
fn one_command_is_enough_for_a_shell() {
    let lab = Lab::new();
    let done = lab
        .ops(["--sandbox", "shell", "web-1"])
        .stdin("echo $((6*7)) from $HOSTNAME\nexit\n")
        .output()
        .success();
    assert!(done.stdout.contains("42 from web-1"), "{done}");
}

#[test]
fn a_served_one_is_found_and_used_and_leaves_nothing_behind() {
    let lab = Lab::with_sandbox();
    let done = lab
        .ops(["sandbox", "status", "-o", "json"])
        .output()
        .success();
    let endpoint = done.json()["endpoint"]
        .as_str()
        .expect("an endpoint")
        .to_owned();
    assert!(endpoint.starts_with("http://127.0.0.1:"), "{endpoint}");
    let names = lab.ops(["ls", "-o", "name"]).output().success().stdout;
    assert!(names.contains("web-1\n"), "{names}");
    let log = lab.ops(["sandbox", "log"]).output().success();
    assert!(log.stdout.contains("DescribeInstances"), "{log}");
    lab.ops(["sandbox", "serve"]).output().exits(9);
    lab.ops(["sandbox", "stop"]).output().success();
    let state = lab.home().join(".local/state/ops/sandbox/sandbox.json");
    let deadline = std::time::Instant::now() + ops_tests::lab::PATIENCE;
    while state.exists() && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    lab.ops(["sandbox", "status"]).output().exits(3);
}

#[test]
fn its_keys_are_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::with_sandbox();
    let state = lab.home().join(".local/state/ops/sandbox/sandbox.json");
    assert_eq!(
        state.metadata().expect("a state file").permissions().mode() & 0o777,
        0o600
    );
    let done = lab
        .ops(["ls"])
        .env("OPS_SANDBOX", "0")
        .env(
            "AWS_ENDPOINT_URL",
            lab.ops(["sandbox", "env", "-o", "json"]).output().json()["AWS_ENDPOINT_URL"]
                .as_str()
                .expect("a URL"),
        )
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "wrong")
        .env("AWS_REGION", "eu-west-1")
        .output();
    assert!(done.status == 4 || done.status == 5, "{done}");
}

#[test]
fn its_environment_serves_any_client_and_can_be_taken_back() {
    let lab = Lab::with_sandbox();
    let binary = ops_tests::lab::binary();
    let script = "eval \"$(\"$0\" sandbox env)\"; unset OPS_SANDBOX; \"$0\" ls -o name; eval \"$(\"$0\" sandbox env --unset)\"; echo \"${AWS_ENDPOINT_URL-none}\"";
    let done = lab
        .run("/bin/sh", ["-c", script, binary.to_str().expect("UTF-8")])
        .output()
        .success();
    assert!(
        done.stdout.contains("web-2\n") && done.stdout.ends_with("none\n"),
        "{done}"
    );
}

#[test]
fn a_plugin_runs_on_the_sandbox_of_the_command_that_started_it() {
    let lab = Lab::new();
    let path = format!("{}:/usr/bin:/bin", lab.home().join("bin").display());
    lab.write_program(
        "bin/ops-names",
        "#!/bin/sh\ntest -f \"$OPS_SANDBOX_STATE\" || exit 99\n\"$OPS_BIN\" ls -o name\nexit 3\n",
    );
    let lab = lab.env("PATH", path);
    let done = lab.ops(["--sandbox", "names"]).output().exits(3);
    assert!(done.stdout.contains("web-1\n"), "{done}");
}

#[test]
fn faults_are_ordered_and_taken_back() {
    let lab = Lab::with_sandbox();
    lab.ops(["sandbox", "fault", "deny=ec2:DescribeInstances"])
        .output()
        .success();
    lab.ops(["ls"]).output().exits(5);
    lab.ops(["sandbox", "fault", "none"]).output().success();
    lab.ops(["ls"]).output().success();
    let done = lab.ops(["sandbox", "fault", "dorp=1%"]).output().exits(2);
    assert!(done.stderr.contains("ops sandbox fault --help"), "{done}");
}
