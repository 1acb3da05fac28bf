//! `ops doctor` on a fleet in which nearly everything is broken, and the causes in the errors of
//! other commands.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use ops_tests::{ports::ClosedPort, service::Service};
use serde_json::Value;
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");
/// The key of `kms-denied` in the fleet.
const DENY_KEY: &str = "deny=kms:GenerateDataKey/arn:aws:kms:eu-west-1:123456789012:key/0f0e0d0c-5e6f-4a0b-8c1d-2e3f4a5b6c7d";

/// Servers whose trouble is their own: what is asked for, and what it is to be named.
const BROKEN: [(&[&str], &str, i32); 21] = [
    (&["no-role"], "no-role", 7),
    (&["wrong-role"], "wrong-role", 7),
    (&["no-route"], "no-route", 7),
    (&["deleted-nat"], "no-route", 7),
    (&["no-public-address"], "no-public-address", 7),
    (&["endpoint-closed"], "endpoint-closed", 7),
    (&["endpoint-missing"], "endpoint-missing", 7),
    (&["egress-closed"], "egress-closed", 7),
    (&["no-agent"], "no-agent", 7),
    (&["just-launched"], "just-launched", 7),
    (&["agent-too-old"], "agent-too-old", 7),
    (&["agent-dead"], "agent-silent", 7),
    (&["run-as-missing"], "run-as-missing", 7),
    (&["kms-denied"], "kms-denied", 7),
    (&["kms-server-denied"], "kms-server-denied", 7),
    (&["stopped"], "stopped", 7),
    (&["i-0dead0000000000ff"], "stopped", 7),
    (&["hybrid-expired"], "hybrid-expired", 7),
    (&["hybrid-lost"], "agent-silent", 7),
    (&["elsewhere"], "other-region", 1),
    (&["region-off", "--region", "me-south-1"], "region-off", 1),
];

fn broken_fleet() -> Service {
    Service::start_with(OPS, |options| {
        options.fleet = Some("broken".into());
        options.faults = DENY_KEY.parse().expect("a fault");
    })
}

/// The document of a run, and its exit status.
fn diagnose(mut command: Command) -> (Value, i32) {
    let output = command.output().expect("ops runs");
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    (document, output.status.code().unwrap_or(-1))
}

fn doctor(service: &Service, args: &[&str]) -> Command {
    let mut command = service.ops(&["doctor", "-o", "json"]);
    command.args(args);
    command
}

/// The first cause is the one that a reader takes for it, and no check accuses anything else.
#[track_caller]
fn assert_named(document: &Value, cause: &str) {
    let causes = document["causes"].as_array().expect("causes");
    let named: Vec<&str> = causes.iter().filter_map(Value::as_str).collect();
    assert_eq!(named, [cause], "{document:#}");
    let failing = checks(document).filter(|check| check["outcome"] == "fail");
    let mut of_cause = failing.filter(|check| check["cause"] == cause);
    let remedies = &of_cause.next().expect("a check that fails")["remedies"];
    assert!(
        remedies.as_array().is_some_and(|all| !all.is_empty()),
        "{document:#}"
    );
}

fn checks(document: &Value) -> impl Iterator<Item = &Value> {
    document["checks"].as_array().into_iter().flatten()
}

#[test]
fn broken_servers_are_named_and_fine_ones_are_not_accused() {
    let service = broken_fleet();
    let fine = (1..=5).map(|number| (format!("fine-{number}"), None));
    let broken = BROKEN.map(|(args, cause, status)| (args.join(" "), Some((cause, status))));
    let cases = Mutex::new(broken.into_iter().chain(fine).collect::<Vec<_>>());
    let next = || cases.lock().expect("no panic").pop();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((args, expected)) = next() {
                    let words: Vec<&str> = args.split(' ').collect();
                    let (document, status) = diagnose(doctor(&service, &words));
                    match expected {
                        Some((cause, wanted)) => {
                            assert_named(&document, cause);
                            assert_eq!(status, wanted, "{args}: {document:#}");
                        }
                        None => {
                            assert_eq!(status, 0, "{args}: {document:#}");
                            assert_eq!(document["outcome"], "ok", "{args}: {document:#}");
                            let session = checks(&document).find(|c| c["check"] == "session");
                            let session = session.expect("a session");
                            assert_eq!(session["outcome"], "ok", "{args}: {document:#}");
                        }
                    }
                }
            });
        }
    });
}

/// On a path of 40 ms a round is 40 ms, or four times that where a connection is new. Five rounds
/// are therefore at most 0.8 s of the two seconds that a healthy server may take: who is asking;
/// the server; EC2 and agent; the role; the session.
#[test]
fn a_healthy_server_takes_few_rounds_one_after_the_other() {
    const ANSWERED_AFTER_MS: i64 = 250;
    const MOST_ROUNDS: usize = 5;
    let service = broken_fleet();
    let actions = [
        "ec2:DescribeRegions",
        "ec2:DescribeInstances",
        "ssm:DescribeInstanceInformation",
        "ssm:ListTagsForResource",
        "ssm:GetDocument",
        "ssm:StartSession",
        "iam:GetInstanceProfile",
        "iam:SimulatePrincipalPolicy",
        "sts:GetCallerIdentity",
    ];
    // Answers come late, so that a call which needs one comes a known time after what it needs.
    let slow = actions.map(|action| format!("slow={action}/{ANSWERED_AFTER_MS}ms"));
    service.set_faults(&slow.join(","));
    let (document, status) = diagnose(doctor(&service, &["fine-1"]));
    assert_eq!(status, 0, "{document:#}");
    let calls = service.call_times();
    // The first ones are no calls: connections are tried without a signature.
    let mut signed = calls.iter().filter(|(action, _)| !action.is_empty());
    let (_, first) = signed.next().expect("calls");
    let (mut rounds, mut begun) = (1, *first);
    for (_, time) in signed {
        if time.duration_since(begun).as_millis() >= i128::from(ANSWERED_AFTER_MS) {
            rounds += 1;
            begun = *time;
        }
    }
    assert!((2..=MOST_ROUNDS).contains(&rounds), "{rounds}: {calls:#?}");
}

#[test]
fn what_is_wrong_with_the_account_and_its_services_is_named() {
    let service = broken_fleet();
    for (faults, cause, status) in [
        ("clock=10m", "clock-skew", 1),
        (
            "deny=ssm:StartSession/SSM-SessionManagerRunShell",
            "document-denied",
            7,
        ),
        ("throttle=ssm:StartSession/1000", "throttled", 7),
    ] {
        service.set_faults(faults);
        let (document, ended) = diagnose(doctor(&service, &["fine-1"]));
        assert_named(&document, cause);
        assert_eq!(ended, status, "{faults}: {document:#}");
    }
}

#[test]
fn a_caller_without_permissions_gets_one_policy_to_add() {
    let service = broken_fleet();
    // By the simulator, and by what was tried where that is denied too.
    for faults in [
        "deny=ssm:StartSession",
        "deny=ssm:StartSession,deny=iam:SimulatePrincipalPolicy,deny=iam:GetInstanceProfile",
    ] {
        service.set_faults(faults);
        let (document, status) = diagnose(doctor(&service, &["fine-1"]));
        assert_eq!(status, 7, "{document:#}");
        let policy = &document["policy"]["Statement"][0];
        assert_eq!(policy["Action"], "ssm:StartSession", "{document:#}");
        let resources = policy["Resource"].to_string();
        assert!(resources.contains(":instance/i-"), "{document:#}");
    }
    service.set_faults("deny=ec2:DescribeRouteTables,deny=ec2:GetConsoleOutput");
    let (document, _) = diagnose(doctor(&service, &["no-route"]));
    for check in ["network", "console"] {
        let found = checks(&document).find(|one| one["check"] == check);
        assert_eq!(found.expect(check)["outcome"], "skipped", "{document:#}");
    }
}

/// Each sentence about permissions is true: of what the simulator says, of whether it was asked,
/// and of what was denied beside.
#[test]
fn what_is_said_of_permissions_is_so() {
    let service = broken_fleet();
    let told = |faults: &str, target: &str| {
        service.set_faults(faults);
        let (document, _) = diagnose(doctor(&service, &[target, "--no-session"]));
        let found = checks(&document).find(|one| one["check"] == "permissions");
        let found = found.expect("permissions").clone();
        let text = found["text"].as_str().expect("a text").to_owned();
        (found["outcome"].as_str().expect("one").to_owned(), text)
    };
    let (outcome, text) = told("", "fine-1");
    assert_eq!(
        (&*outcome, &*text),
        ("ok", "everything that sessions need is allowed")
    );
    // The simulator is asked where there is no server, too.
    let (outcome, text) = told("", "nosuch");
    assert_eq!(
        (&*outcome, &*text),
        ("ok", "everything that sessions need is allowed")
    );
    let (outcome, text) = told("deny=ssm:SendCommand,deny=ssm:DescribeSessions", "fine-1");
    assert_eq!(outcome, "ok", "{text}");
    for words in [
        "`ssm:SendCommand` (exec --via run-command)",
        "`ssm:DescribeSessions` (sessions)",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let (outcome, text) = told(
        "deny=iam:SimulatePrincipalPolicy,deny=iam:GetInstanceProfile",
        "fine-1",
    );
    assert_eq!(outcome, "skipped", "{text}");
    for words in [
        "iam:SimulatePrincipalPolicy is not allowed",
        "nothing that a session needs was denied; denied was what these checks ask: role",
    ] {
        assert!(text.contains(words), "{text}");
    }
}

/// Without the addresses of the sandbox: a user of AWS, whose calls never leave this machine since
/// they go by way of a proxy here.
fn by_way_of(mut command: Command, proxy: &str) -> Command {
    command
        .env_remove("AWS_ENDPOINT_URL")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env("HTTPS_PROXY", proxy)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

#[test]
fn what_is_wrong_between_here_and_aws_is_named() {
    let service = broken_fleet();
    let closed = ClosedPort::reserve();
    let proxy = format!("http://127.0.0.1:{}", closed.number());
    let (document, status) = diagnose(by_way_of(doctor(&service, &["fine-1"]), &proxy));
    assert_named(&document, "proxy-in-the-way");
    assert_eq!(status, 1, "{document:#}");

    let proxy = intercepting_proxy();
    let (document, _) = diagnose(by_way_of(doctor(&service, &["fine-1"]), &proxy));
    assert_named(&document, "tls-intercepted");
    let text = document.to_string();
    assert!(text.contains("CN=test authority"), "{document:#}");
    // Other commands say what to do about it. A machine without any authorities fails in the same
    // way, so the hint names both remedies.
    let output = by_way_of(service.ops(&["ls"]), &proxy).output();
    let output = output.expect("ops runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("UnknownIssuer"), "{told}");
    for what in ["export AWS_CA_BUNDLE=FILE.pem", "ca-certificates"] {
        assert!(told.contains(what), "{told}");
    }
    assert!(!told.contains("spelling"), "{told}");
}

/// A proxy that opens every tunnel and answers in it with a certificate of its own.
fn intercepting_proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/session/tests/data/tls");
    let chain = CertificateDer::pem_file_iter(data.join("server.pem"))
        .expect("certificates")
        .collect::<Result<_, _>>()
        .expect("certificates");
    let key = PrivateKeyDer::from_pem_file(data.join("server-key.pem")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a configuration");
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let config = Arc::clone(&config);
            std::thread::spawn(move || intercept(stream, config));
        }
    });
    format!("http://{address}")
}

fn intercept(mut stream: TcpStream, config: Arc<ServerConfig>) {
    let mut head = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut line = String::new();
    while head.read_line(&mut line).is_ok_and(|len| len > 2) {
        line.clear();
    }
    let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
    // The client refuses the certificate, and that is the end of it.
    if let Ok(mut connection) = ServerConnection::new(config) {
        let _ = connection.complete_io(&mut stream);
    }
}

#[test]
fn a_login_that_has_ended_and_another_account_are_named() {
    let service = broken_fleet();
    let write = |path: &str, text: &str| {
        let path = service.home().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write(
        ".config/ops/profiles/other.yaml",
        "aws: { account: \"999999999999\" }\n",
    );
    let (document, status) = diagnose(doctor(&service, &["fine-1", "-p", "other"]));
    assert_named(&document, "wrong-account");
    assert_eq!(status, 1, "{document:#}");

    write(
        ".aws/config",
        "[profile work]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Ops\nregion = eu-west-1\n[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = eu-west-1\n",
    );
    // The name is the SHA-1 of that of the session, as the AWS CLI has it.
    write(
        ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json",
        r#"{"startUrl":"https://corp.awsapps.com/start","region":"eu-west-1","accessToken":"x","expiresAt":"2020-01-01T00:00:00Z"}"#,
    );
    let mut command = doctor(&service, &["fine-1", "--aws-profile", "work"]);
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    let (document, status) = diagnose(command);
    assert_named(&document, "login-expired");
    assert_eq!(status, 1, "{document:#}");
}

/// The calls that come after the refusal are two at most, as the user waits for the words.
#[test]
fn every_command_tells_the_cause_of_what_it_cannot_reach() {
    let service = broken_fleet();
    for (name, cause, words) in [
        ("no-role", "no-role", "no instance profile is attached"),
        (
            "endpoint-closed",
            "never-reported",
            "see which of them it is: ops doctor endpoint-closed",
        ),
        (
            "agent-dead",
            "agent-silent",
            "its agent last reported 3d ago",
        ),
        (
            "agent-too-old",
            "agent-too-old",
            "sessions take 2.3.68.0 at least",
        ),
        (
            "just-launched",
            "just-launched",
            "agents report within three minutes",
        ),
        (
            "run-as-missing",
            "run-as-missing",
            "RunAs user deploy does not exist",
        ),
        (
            "kms-server-denied",
            "kms-server-denied",
            "lacks `kms:Decrypt`",
        ),
        ("stopped", "stopped", "`stopped` is stopped"),
    ] {
        let before = service.calls().len();
        let output = service
            .ops(&["shell", name, "--error-format", "json"])
            .output();
        let output = output.expect("ops runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let error: Value = told
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str(line).ok())
            .unwrap_or_else(|| panic!("{name}: {told}"));
        assert_eq!(error["cause"], cause, "{told}");
        assert!(told.contains(words), "{name}: {told}");
        assert!(told.matches("ops doctor ").count() <= 1, "{name}: {told}");
        let calls = service.calls();
        let after = calls[before..]
            .iter()
            .rev()
            .take_while(|call| *call != "StartSession");
        let asked = after.filter(|call| *call != "TerminateSession").count();
        assert!(
            asked <= 2 || cause == "stopped",
            "{name}: {:?}",
            &calls[before..]
        );
    }
}

#[test]
fn a_report_for_others_has_stand_ins_and_is_its_owners_alone() {
    let service = broken_fleet();
    let file: PathBuf = service.home().join("report.txt");
    let path = file.to_str().expect("a path");
    let without_yes = service
        .ops(&["doctor", "fine-1", "--bundle", path])
        .output();
    let without_yes = without_yes.expect("ops runs");
    assert_eq!(without_yes.status.code(), Some(9));
    assert!(!file.exists());
    let mut command = doctor(&service, &["fine-1", "--bundle", path, "--yes"]);
    let output = command.output().expect("ops runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = std::fs::read_to_string(&file).expect("a report");
    for private in ["123456789012", "fine-1", "i-0", "AKIA", "user/sandbox"] {
        assert!(!report.contains(private), "{private}: {report}");
    }
    assert!(report.contains("<account 1>") && report.contains("\"kind\": \"Diagnosis\""));
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(shown.contains("<account 1>"), "{shown}");
    let mode = std::fs::metadata(&file)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_an_account_demands_of_sessions_is_told() {
    let service = broken_fleet();
    let cause_of_shell = |name: &str| -> Value {
        let shell = service
            .ops(&["shell", name, "--error-format", "json"])
            .output();
        let told = shell.expect("ops runs").stderr;
        let told = String::from_utf8_lossy(&told).into_owned();
        let mut lines = told.lines().rev();
        let error = lines.find_map(|line| serde_json::from_str::<Value>(line).ok());
        error.unwrap_or_else(|| panic!("{told}"))["cause"].clone()
    };
    // Access is asked for in place of being had.
    service.set_faults("just-in-time,deny=ssm:StartSession");
    let (document, status) = diagnose(doctor(&service, &["fine-1"]));
    assert_named(&document, "just-in-time");
    assert_eq!(status, 7, "{document:#}");
    assert_eq!(cause_of_shell("fine-1"), "just-in-time");
    // Whoever has access needs no request.
    service.set_faults("just-in-time");
    assert_eq!(diagnose(doctor(&service, &["fine-1"])).1, 0);

    service.set_faults("standard-tier");
    let (document, status) = diagnose(doctor(&service, &["hybrid-online"]));
    assert_named(&document, "standard-tier");
    assert_eq!(status, 7, "{document:#}");
    assert!(
        document.to_string().contains("activation-tier"),
        "{document:#}"
    );
    assert_eq!(cause_of_shell("hybrid-online"), "standard-tier");

    service.set_faults("document-check");
    let (document, status) = diagnose(doctor(&service, &["fine-1"]));
    assert_eq!(status, 0, "{document:#}");
    assert!(
        document
            .to_string()
            .contains("ssm:SessionDocumentAccessCheck"),
        "{document:#}"
    );
    service.set_faults("document-check,deny=ssm:StartSession/SSM-SessionManagerRunShell");
    let (document, _) = diagnose(doctor(&service, &["fine-1"]));
    assert_named(&document, "document-denied");
    assert!(
        document
            .to_string()
            .contains("ssm:SessionDocumentAccessCheck"),
        "{document:#}"
    );
    assert_eq!(cause_of_shell("fine-1"), "document-denied");

    // A reason is the profile's demand, and no fault of the server.
    service.set_faults("");
    let profiles = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&profiles).expect("a folder");
    std::fs::write(profiles.join("why.yaml"), "session: { reason: required }\n").expect("a file");
    let (document, status) = diagnose(doctor(&service, &["fine-1", "-p", "why"]));
    let session = checks(&document)
        .find(|check| check["check"] == "session")
        .expect("it");
    assert_eq!(
        (&session["outcome"], status),
        (&"skipped".into(), 0),
        "{document:#}"
    );
    assert!(session.to_string().contains("reason"), "{document:#}");
    let with_reason = ["fine-1", "-p", "why", "--reason", "INC-1"];
    let (document, _) = diagnose(doctor(&service, &with_reason));
    let session = checks(&document)
        .find(|check| check["check"] == "session")
        .expect("it");
    assert_eq!(session["outcome"], "ok", "{document:#}");
}

/// Everything that has a name here has this in it.
const MARK: &str = "zqx";

/// A fleet of which every name holds the mark, one server of it broken in each way that is told
/// with names.
const MARKED: &str = r#"
account_alias: zqx-account
buckets: [zqx-bucket]
session:
  run_as_user: zqxuser
  s3_bucket_name: zqx-bucket
  s3_key_prefix: zqx/prefix
  cloud_watch_log_group_name: /zqx/sessions
  kms_key: arn:aws:kms:eu-west-1:123456789012:alias/zqx-key
server_roles:
  zqx-role: { policies: [zqx-policy] }
subnets:
  zqx-subnet: { way: none }
instances:
  - { name: zqx-fine, tags: { zqx-tag: zqx-value, Owner: zqx@example.org } }
  - { name: "zqx \"quoted\" \u00e9", tags: { Team: zq } }
  - { name: zqx-wrong-role, role: zqx-role }
  - { name: zqx-no-route, subnet: zqx-subnet }
  - { name: zqx-dead, agent: { online: false, last_ping: 3d }, console: ["amazon-ssm-agent[7]: zqx-host failed at zqx"] }
  - { name: zqx-stopped, state: stopped }
  - { name: zqx-user, lacks_users: [zqxuser] }
  - { name: zqx-hybrid, hybrid: true, agent: { online: false, last_ping: 5h } }
"#;

#[test]
fn nothing_that_has_a_name_is_in_a_report_for_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = folder.path().join("fleet.yaml");
    std::fs::write(&fleet, MARKED).expect("a fleet");
    let service = Service::start_with(OPS, |options| {
        options.fleet = Some(fleet.clone());
    });
    let write = |path: &str, text: &str| {
        let path = service.home().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write(
        ".config/ops/profiles/zqx-team.yaml",
        "hosts: { zqx-alias: zqx-fine }\nforwards: { zqx-fwd: { via: zqx-fine, listen: 0, to: 'zqx.internal:80' } }\nexec: { s3_bucket: zqx-bucket }\n",
    );
    // What a command in the background has left there.
    write(
        ".local/state/ops/forward/1.log",
        "zqx-fwd: 127.0.0.1:80 by way of zqx-fine to zqx.internal:80\ncannot open `/srv/zqx/file`: denied\nhttp://zqx:zqx@zqx-proxy:3128 CN=zqx Root, O=zqx\n",
    );
    // Every server is in the cache, and so are their names.
    let listed = service
        .ops(&["ls", "--state", "all"])
        .output()
        .expect("ops runs");
    assert!(listed.status.success());
    let targets = [
        &["zqx-fine"][..],
        &["zqx \"quoted\" \u{e9}", "--no-session"],
        &["zqx-wrong-role"],
        &["zqx-no-route"],
        &["zqx-dead"],
        &["zqx-stopped"],
        &["zqx-user"],
        &["zqx-hybrid"],
        &["zqx-nobody"],
        &["tag:zqx-tag=zqx-value"],
        &[],
    ];
    for (number, args) in targets.iter().enumerate() {
        let file = service.home().join(format!("report-{number}"));
        let mut command = service.ops(&["doctor", "-p", "zqx-team", "--yes", "--bundle"]);
        let output = command
            .arg(&file)
            .args(*args)
            .env("USER", "zqxuser")
            .env("ZQX_PROXY", "http://zqx:1")
            .output()
            .expect("ops runs");
        let report = std::fs::read_to_string(&file)
            .unwrap_or_else(|_| panic!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)));
        let lower = report.to_lowercase();
        for private in [MARK, "123456789012", "akia", "example.org"] {
            assert!(!lower.contains(private), "{args:?}: {private}: {report}");
        }
        let home = service.home().to_str().expect("a path").to_lowercase();
        assert!(!lower.contains(&home), "{args:?}: {report}");
        // And it is still a report.
        assert!(report.contains("\"check\": \"credentials\""), "{report}");
    }
}
