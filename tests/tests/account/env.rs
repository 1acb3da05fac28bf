//! Credentials for other programs.

use std::process::Command;

use ops_test_needs::needs;
use ops_tests::{service::Service, terminal::Terminal};

use crate::{OPS, ops, run, without_keys, write};

fn secret(service: &Service) -> String {
    let environment = service.environment();
    let secret = environment
        .into_iter()
        .find(|(name, _)| name == "AWS_SECRET_ACCESS_KEY");
    secret
        .and_then(|(_, value)| value.into_string().ok())
        .expect("a secret")
}

#[test]
fn the_lines_set_the_credentials_in_a_shell() {
    let service = Service::start(OPS, "");
    let lines = ops(&service, &["env"]).succeeds().stdout;
    let mut shell = Command::new("sh");
    let script = format!(
        "{lines}\nprintf '%s/%s/%s' \"$AWS_SECRET_ACCESS_KEY\" \"$AWS_REGION\" \"${{AWS_PROFILE-none}}\""
    );
    let output = shell
        .args(["-c", &script])
        .env_clear()
        .env("AWS_PROFILE", "other")
        .env("AWS_SESSION_TOKEN", "of another login")
        .output()
        .expect("a shell");
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(told, format!("{}/eu-west-1/none", secret(&service)));
    assert!(lines.contains("unset AWS_SESSION_TOKEN\n"), "{lines}");
    let mut terminal = Terminal::start(&service, &["env"]);
    terminal.wait_for("these are secrets");
    assert_eq!(terminal.wait(), Some(0));
}

/// As botocore has it ("the refreshed credentials are still expired").
#[test]
fn credentials_that_are_over_are_handed_to_nobody() {
    let service = Service::start(OPS, "");
    let env_with_end = |end: &str, args: &[&str]| {
        let mut command = service.ops(args);
        run(command.env("AWS_CREDENTIAL_EXPIRATION", end))
    };
    let over = "2020-01-31T12:00:00Z";
    for args in [&["env"][..], &["env", "-o", "json"], &["env", "--", "env"]] {
        let done = env_with_end(over, args);
        assert_eq!(done.stdout, "", "{args:?}");
        done.fails(
            4,
            &[
                "have expired",
                "2020-01-31 12:00 UTC",
                "unset AWS_ACCESS_KEY_ID",
            ],
        );
    }
    let lines = env_with_end("2999-01-31T12:00:00Z", &["env"])
        .succeeds()
        .stdout;
    assert!(lines.contains("2999-01-31T12:00:00Z"), "{lines}");
    // What is no time tells nothing, and AWS decides.
    env_with_end("soon", &["env"]).succeeds();
}

#[test]
fn fish_reads_the_lines_that_are_made_for_it() {
    needs!("fish");
    let service = Service::start(OPS, "");
    let lines = ops(&service, &["env", "--shell", "fish"]).succeeds().stdout;
    let script = format!("{lines}\necho -n \"$AWS_SECRET_ACCESS_KEY/$AWS_REGION/$AWS_PROFILE.\"");
    let output = Command::new("fish")
        .args(["--no-config", "-c", &script])
        .env("AWS_PROFILE", "other")
        .output()
        .expect("fish");
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(told, format!("{}/eu-west-1/.", secret(&service)));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_program_runs_with_the_credentials_and_its_status_is_ours() {
    let service = Service::start(OPS, "");
    // Of a role, which nobody but ops has assumed.
    write(
        &service,
        ".config/ops/profiles/role.yaml",
        "aws: { role_arn: \"arn:aws:iam::123456789012:role/checker\", session_name: check }\n",
    );
    let script = "test -n \"$AWS_SESSION_TOKEN\" && test -z \"${AWS_PROFILE-}\" && exit 7";
    let mut command = service.ops(&["env", "-p", "role", "--", "sh", "-c", script]);
    let done = run(command.env("AWS_PROFILE", ""));
    assert_eq!(done.status, Some(7), "{}", done.stderr);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    let who = ops(&service, &["whoami", "-p", "role", "-o", "json"]).succeeds();
    assert_eq!(who.json()["source"], "role");
    ops(&service, &["env", "--", "no-such-program-here"])
        .fails(2, &["cannot run `no-such-program-here`"]);
    // The document is what a profile of the AWS configuration takes, such as that of ops itself.
    let document = ops(&service, &["env", "-p", "role", "-o", "json"]).succeeds();
    assert_eq!(document.json()["Version"], 1);
    let program = write(&service, "document.json", &document.stdout);
    let config = format!(
        "[profile piped]\ncredential_process = cat {}\n",
        program.display()
    );
    write(&service, ".aws/config", &config);
    let mut piped = without_keys(
        &service,
        &["--aws-profile", "piped", "whoami", "-o", "json"],
    );
    let who = run(&mut piped).succeeds().json();
    assert_eq!(who["source"], "process", "{who:#}");
    let arn = who["arn"].as_str().expect("an ARN").to_owned();
    assert!(arn.ends_with("assumed-role/checker/check"), "{arn}");
    let mut login = without_keys(&service, &["--aws-profile", "piped", "login"]);
    let done = run(&mut login).succeeds();
    assert!(
        done.stderr
            .contains("credential_process of AWS profile `piped`"),
        "{}",
        done.stderr
    );
    ops(&service, &["env", "-o", "yaml"]).fails(2, &["no output format"]);
}
