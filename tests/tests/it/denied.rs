//! What is told where AWS denies something, and that no verb calls what the policy of the
//! documentation does not allow.

use std::collections::BTreeSet;

use ops_tests::service::{Answer, Service};

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");
const WEB_1: &str = "i-0a1b2c3d4e5f60718";

fn run(service: &Service, args: &[&str], input: &str) -> Answer {
    Answer::of(service, service.ops(args), input)
}

#[test]
fn a_denied_resumption_is_told_as_what_it_is() {
    let service = Service::start(OPS, "cut-after=8,deny=ssm:ResumeSession");
    let answer = run(&service, &["shell", "web-1"], "sleep 60\n");
    answer.ends_with(5);
    answer.tells(["may not be taken up again"]);
    answer.tells(["the caller lacks `ssm:ResumeSession` on `arn:aws:ssm:eu-west-1:"]);
    answer.tells(["\"ssm:resourceTag/aws:ssmmessages:session-id\":\"${aws:userid}*\""]);
    assert!(!answer.stderr.contains("nothing brings this one back"));
}

#[test]
fn a_denied_end_is_told_once() {
    let service = Service::start(OPS, "deny=ssm:TerminateSession");
    std::fs::write(service.home().join("file"), "text").expect("a file");
    let to = format!("web-1:{}", service.home().join("copy").display());
    let answer = run(&service, &["cp", "file", &to], "");
    answer.ends_with(0);
    let told = answer
        .stderr
        .matches("the session was not terminated at the service");
    assert_eq!(told.count(), 1, "{}", answer.stderr);
    answer.tells(["\"Sid\":\"OwnSessions\""]);
}

#[test]
fn a_signature_that_is_refused_is_left_out_for_the_rest_of_the_process() {
    let service = Service::start(OPS, "refuse-dial=signed");
    let answer = run(&service, &["shell", "web-1"], "echo $((6*7))\nexit\n");
    answer.ends_with(0);
    assert!(answer.stdout.contains("42"), "{}", answer.stdout);
}

#[test]
fn a_refused_dial_names_the_permission_and_blames_the_clock_only_where_the_answer_does() {
    let service = Service::start(OPS, "refuse-dial=all");
    let answer = run(&service, &["shell", "web-1"], "");
    answer.ends_with(5);
    answer.tells(["`ssmmessages:OpenDataChannel` on `*`"]);
    answer.tells(["\"Sid\":\"DataChannels\""]);
    assert!(!answer.stderr.contains("clock"), "{}", answer.stderr);
}

#[test]
fn a_wrong_clock_has_one_exit_code_and_one_hint_whatever_call_meets_it() {
    let service = Service::start(OPS, "");
    let shell = &["shell", "web-1"][..];
    for (faults, args) in [
        ("refuse-dial=clock", shell),
        ("clock=10m", shell),
        ("clock=10m", &["ls"]),
        ("clock=10m", &["describe", "web-1"]),
    ] {
        service.set_faults(faults);
        let answer = run(&service, args, "");
        answer.ends_with(4);
        answer.tells(["set the clock of this machine: sudo timedatectl set-ntp true"]);
    }
}

#[test]
fn a_call_that_is_not_answered_is_told_of_once() {
    let service = Service::start(OPS, "slow=ssm:StartSession/2200ms");
    let answer = run(&service, &["exec", "web-1", "--", "true"], "");
    answer.ends_with(0);
    let words = "waiting for AWS to answer StartSession";
    assert_eq!(answer.stderr.matches(words).count(), 1, "{}", answer.stderr);
}

#[test]
fn a_stream_url_that_leads_elsewhere_is_refused_by_name() {
    let host = "ssmmessages.eu-west-1.amazonaws.com.evil.example";
    let service = Service::start(OPS, &format!("stream-host={host}"));
    let answer = run(&service, &["shell", "web-1"], "");
    answer.ends_with(9);
    answer.tells([&format!("it leads to `{host}`")]);
    // The session that was started is ended.
    service.wait_for_call("TerminateSession");
}

#[test]
fn a_denied_start_prints_the_statement_with_server_and_document() {
    let service = Service::start(OPS, "deny=ssm:StartSession/AWS-StartSSHSession");
    let answer = run(&service, &["ssh-proxy", WEB_1], "");
    answer.ends_with(255);
    answer.tells([&format!(
        "\"Resource\":[\"arn:aws:ec2:eu-west-1:123456789012:instance/{WEB_1}\",\"arn:aws:ssm:eu-west-1::document/AWS-StartSSHSession\"]"
    )]);
}

#[test]
fn a_denied_document_ends_exec_with_255_and_the_statement() {
    let document = "AWS-StartNonInteractiveCommand";
    let service = Service::start(OPS, &format!("deny=ssm:StartSession/{document}"));
    let answer = run(&service, &["exec", "web-1", "--", "true"], "");
    answer.ends_with(255);
    answer.tells(["ops: OPS-E-DENIED: "]);
    answer.tells([&format!("arn:aws:ssm:eu-west-1::document/{document}")]);
    // One of several is a row.
    let answer = run(
        &service,
        &["exec", "-n", "web-1", "web-2", "--", "true"],
        "",
    );
    answer.ends_with(8);
    answer.tells(["0 of 2 succeeded, 2 could not be run"]);
}

#[test]
fn a_node_without_the_advanced_tier_is_told_as_that() {
    let service = Service::start(OPS, "standard-tier");
    let answer = run(&service, &["shell", "depot-1"], "");
    answer.ends_with(7);
    answer.tells(["BadRequest"]);
    answer.tells(["hint: enable the advanced tier: aws ssm"]);
}

#[test]
fn an_agent_that_is_too_old_for_remote_hosts_is_to_be_updated() {
    let service = Service::start(OPS, "agent-version=3.0.1390.0");
    let answer = run(&service, &["forward", "web-1", "0:db.internal:3306"], "");
    answer.ends_with(7);
    answer.tells(["BadRequest"]);
    answer.tells(["doesn't support port forwarding to remote hosts"]);
    answer.tells([&format!(
        "hint: update the agent: aws ssm send-command --document-name AWS-UpdateSSMAgent --targets Key=InstanceIds,Values={WEB_1}"
    )]);
}

#[test]
fn a_short_remote_host_is_refused_before_any_call() {
    let service = Service::start(OPS, "");
    for host in ["db", "x"] {
        let spec = format!("0:{host}:3306");
        let answer = run(&service, &["forward", "web-1", &spec], "");
        answer.ends_with(2);
        answer.tells(["use its full name or address"]);
    }
    assert_eq!(service.calls(), Vec::<String>::new());
}

#[test]
fn a_command_document_is_told_as_the_service_does() {
    let service = Service::start(OPS, "");
    let args = ["shell", "web-1", "--document", "AWS-RunShellScript"];
    let answer = run(&service, &args, "");
    assert_ne!(answer.status, Some(0));
    answer.tells(["Only type: 'Session' is supported"]);
}

/// A copy to a server whose agent is offline, by a user of whom the environment knows nothing.
#[test]
fn the_first_failure_is_the_one_that_is_told() {
    let service = Service::start(OPS, "");
    std::fs::write(service.home().join("file"), "text").expect("a file");
    let answer = run(&service, &["cp", "file", "worker-1:/tmp/"], "");
    answer.ends_with(7);
    answer.tells(["error: `worker-1` is not connected to Session Manager"]);
    answer.tells(["going by sftp instead failed too: "]);
    assert!(
        !answer.stderr.contains("no user is known"),
        "{}",
        answer.stderr
    );
}

/// Of a verb, the actions that `docs/iam.md` allows it.
fn allowed(verb: &str) -> BTreeSet<String> {
    let page = include_str!("../../../docs/iam.md");
    let begin = format!("| `{verb}` |");
    let row = page
        .lines()
        .find(|line| line.starts_with(&begin))
        .expect(verb);
    row.split('`')
        .filter_map(|word| word.split_once(':'))
        .filter(|(service, _)| !service.contains(' '))
        .map(|(_, operation)| operation.to_owned())
        // Of credentials.
        .chain(["GetCallerIdentity".to_owned()])
        // HEAD of a bucket is `s3:ListBucket`.
        .chain((verb == "cp").then(|| "HeadBucket".to_owned()))
        .collect()
}

#[test]
fn no_verb_calls_what_the_page_does_not_allow_it() {
    // Encrypted, so that what that takes is among the calls.
    let service = Service::start(OPS, "kms=arn:aws:kms:eu-west-1:123456789012:key/k");
    let profiles = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&profiles).expect("a folder");
    std::fs::write(
        profiles.join("bucket.yaml"),
        "copy: { s3_bucket: ops-sandbox-copies, s3_prefix: p }\nssh: { user: ec2-user, auth: instance-connect }\n",
    )
    .expect("a profile");
    std::fs::write(service.home().join("file"), "text").expect("a file");
    let to = |name: &str| format!("web-1:{}", service.home().join(name).display());
    let (session, sftp, s3) = (to("session"), to("sftp"), to("s3"));
    let by = ["cp", "--profile", "bucket", "--via"];
    let runs: &[&[&str]] = &[
        &["ls", "-o", "json"],
        &["ls", "--all-regions"],
        &["describe", "web-1"],
        &["cache", "refresh"],
        &["shell", "web-1"],
        &["exec", "web-1", "--", "cat"],
        &["exec", "web-1", "web-2", "--", "true"],
        &["logs", "web-1", "/etc/passwd"],
        &["cp", "file", &session],
        &[&by[..], &["sftp", "file", &sftp]].concat(),
        &[&by[..], &["s3", "file", &s3]].concat(),
        &["forward", "web-1", "0:9", "--", "true"],
        &["ssh-proxy", "web-1"],
        &["ssh-config"],
        &["console", "web-1", "--login", "--print"],
        &["wait", "web-1", "--for", "session"],
        &["doctor", "web-1"],
    ];
    let mut before = 0;
    for args in runs {
        let answer = run(&service, args, "exit\n");
        let calls = service.calls();
        let new = &calls[before..];
        before = calls.len();
        assert!(!new.is_empty(), "{args:?}: {}", answer.stderr);
        let allowed = allowed(args[0]);
        for call in new {
            // The console's endpoint is no service of IAM's, and a look at a service's clock is a
            // request without an action.
            let is_allowed = allowed.contains(call) || call == "getSigninToken" || call.is_empty();
            assert!(is_allowed, "{} calls {call}", args[0]);
        }
    }
}
