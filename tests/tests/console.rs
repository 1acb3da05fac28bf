//! `ops console` and `ops wait`.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use ops_test_needs::needs;
use ops_tests::service::Service;

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");

struct Answer {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(command: &mut Command) -> Answer {
    let output = command.output().expect("ops runs");
    Answer {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn print_gives_the_url_alone() {
    let service = Service::start(OPS, "");
    let answer = run(&mut service.ops(&["console", "web-1", "--print"]));
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    assert_eq!(
        answer.stdout,
        "https://eu-west-1.console.aws.amazon.com/ec2/home?region=eu-west-1#ConnectToInstance:instanceId=i-0a1b2c3d4e5f60718\n"
    );
    assert_eq!(answer.stderr, "");
}

#[test]
fn every_partition_has_its_own_console() {
    let service = Service::start(OPS, "");
    for (region, host) in [
        ("eu-west-1", "eu-west-1.console.aws.amazon.com"),
        ("cn-north-1", "cn-north-1.console.amazonaws.cn"),
        (
            "us-gov-west-1",
            "us-gov-west-1.console.amazonaws-us-gov.com",
        ),
    ] {
        service.change_instance("", &format!(r#"{{"name": "here", "region": "{region}"}}"#));
        let answer = run(&mut service.ops(&[
            "--region", region, "console", "here", "--print", "--page", "session",
        ]));
        assert_eq!(answer.status, Some(0), "{}", answer.stderr);
        assert!(
            answer.stdout.starts_with(&format!(
                "https://{host}/systems-manager/session-manager/i-"
            )),
            "{}",
            answer.stdout
        );
    }
}

#[test]
fn a_stopped_instance_has_pages_too() {
    let service = Service::start(OPS, "");
    let answer = run(&mut service.ops(&["console", "web-4", "--print", "--page", "instance"]));
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    assert!(
        answer.stdout.ends_with("instanceId=i-0d4e5f60718293a4b\n"),
        "{}",
        answer.stdout
    );
    let answer = run(&mut service.ops(&["console", "nosuch", "--print"]));
    assert_eq!(answer.status, Some(3), "{}", answer.stderr);
}

#[test]
fn a_hybrid_node_has_its_own_pages() {
    let service = Service::start(OPS, "");
    let answer = run(&mut service.ops(&["console", "depot-1", "--print"]));
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    assert_eq!(
        answer.stdout,
        "https://eu-west-1.console.aws.amazon.com/systems-manager/session-manager/mi-0a4b5c6d7e8f90123?region=eu-west-1\n"
    );
}

/// A browser that writes down what it was started with and what the page led on to.
fn browser(service: &Service) -> PathBuf {
    let path = service.home().join("browser");
    let (argument, headers) = (
        service.home().join("argument"),
        service.home().join("headers"),
    );
    std::fs::write(
        &path,
        format!(
            "#!/bin/sh\nprintf %s \"$1\" > {}\ncase $1 in http:*) curl -s --noproxy '*' -o /dev/null -D {} \"$1\";; esac\n",
            argument.display(),
            headers.display()
        ),
    )
    .expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

#[test]
fn the_browser_that_is_named_is_started() {
    let service = Service::start(OPS, "");
    let browser = browser(&service);
    let answer = run(service
        .ops(&["console", "web-1", "--page", "instance"])
        .env("BROWSER", format!("nosuchbrowser:{} %s", browser.display())));
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    assert_eq!(answer.stdout, "");
    assert_eq!(
        std::fs::read_to_string(service.home().join("argument")).expect("started"),
        "https://eu-west-1.console.aws.amazon.com/ec2/home?region=eu-west-1#InstanceDetails:instanceId=i-0a1b2c3d4e5f60718"
    );
}

#[test]
fn without_a_browser_the_url_is_printed() {
    let service = Service::start(OPS, "");
    let answer = run(&mut service.ops(&["console", "web-1"]));
    assert_eq!(answer.status, Some(0));
    assert!(answer.stdout.starts_with("https://"), "{}", answer.stdout);
    assert!(answer.stderr.contains("no browser"), "{}", answer.stderr);
}

#[test]
fn a_sign_in_url_reaches_the_browser_but_no_list_of_processes() {
    needs!("curl");
    let service = Service::start(OPS, "");
    let browser = browser(&service);
    let answer = run(service
        .ops(&["console", "web-1", "--login", "-vv"])
        .env("BROWSER", &browser));
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("good for 15 minutes"),
        "{}",
        answer.stderr
    );
    assert!(!answer.stderr.contains("SigninToken"), "{}", answer.stderr);
    let argument = std::fs::read_to_string(service.home().join("argument")).expect("started");
    assert!(argument.starts_with("http://127.0.0.1:"), "{argument}");
    assert!(!argument.contains("SigninToken"), "{argument}");
    let headers = std::fs::read_to_string(service.home().join("headers")).expect("asked");
    assert!(
        headers.contains(
            "Action=login&Issuer=ops&Destination=https%3A%2F%2Feu-west-1.console.aws.amazon.com"
        ),
        "{headers}"
    );
    assert!(service.calls().contains(&"getSigninToken".to_owned()));
}

#[test]
fn a_sign_in_that_is_denied_says_so() {
    let service = Service::start(OPS, "deny=sts:GetFederationToken");
    let answer = run(&mut service.ops(&["console", "web-1", "--login", "--print"]));
    assert_eq!(answer.status, Some(5), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("sts:GetFederationToken"),
        "{}",
        answer.stderr
    );
    assert_eq!(answer.stdout, "");
}

#[test]
fn wait_ends_when_the_instance_has_come_up() {
    let service = Service::start(OPS, "");
    service.change_instance("web-2", r#"{"state": "pending", "online": false}"#);
    let mut waiting = service
        .ops(&["wait", "web-2", "--for", "online"])
        .spawn()
        .expect("ops starts");
    // It has looked at least once when the change comes.
    service.wait_for_call("DescribeInstances");
    assert!(waiting.try_wait().expect("a child").is_none());
    service.change_instance("web-2", r#"{"state": "running", "online": true}"#);
    let output = waiting.wait_with_output().expect("ops ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("web-2 is online"), "{stderr}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn wait_for_a_session_opens_one_and_closes_it() {
    let service = Service::start(OPS, "");
    let answer = run(&mut service.ops(&["wait", "web-1", "--for", "session"]));
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    let sessions = service.sessions();
    assert_eq!(sessions.len(), 1);
    assert!(sessions[0].starts_with("Terminat"), "{sessions:?}");
}

#[test]
fn a_wait_that_is_over_ends_with_124_and_says_how_far_it_was() {
    let service = Service::start(OPS, "");
    service.change_instance("web-2", r#"{"online": false}"#);
    let answer = run(&mut service.ops(&["wait", "web-2", "--for", "online", "--timeout", "1s"]));
    assert_eq!(answer.status, Some(124), "{}", answer.stderr);
    assert!(answer.stderr.contains("agent"), "{}", answer.stderr);
    let answer = run(&mut service.ops(&["wait", "nosuch", "--timeout", "1s"]));
    assert_eq!(answer.status, Some(124), "{}", answer.stderr);
    // What will never come is not waited for.
    let answer = run(&mut service.ops(&["wait", "web-*", "--timeout", "1h"]));
    assert_eq!(answer.status, Some(6), "{}", answer.stderr);
}

#[test]
fn what_waiting_cannot_help_ends_the_wait_at_once_with_the_reason() {
    for (faults, goal, status, words) in [
        (
            "kms=arn:aws:kms:eu-west-1:123456789012:key/k,kms-state=disabled",
            "session",
            7,
            "could not be encrypted",
        ),
        ("deny=ssm:StartSession", "session", 5, "ssm:StartSession"),
        (
            "deny=ssm:DescribeInstanceInformation",
            "online",
            5,
            "ssm:DescribeInstanceInformation",
        ),
    ] {
        let service = Service::start(OPS, faults);
        // Only the limit of the test itself would end a wait.
        let answer = run(&mut service.ops(&["wait", "web-1", "--for", goal, "--timeout", "1h"]));
        assert_eq!(answer.status, Some(status), "{faults}: {}", answer.stderr);
        assert!(answer.stderr.contains(words), "{faults}: {}", answer.stderr);
    }
}
