//! Credentials that expire under open tunnels: an SSO login that somebody is asked for, or that is
//! made elsewhere; MFA.

use std::{net::TcpStream, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use ops_tests::{service::Service, terminal::Terminal};
use serde_json::Value;

use crate::{
    far::{connect, echo, echoes},
    tunnel::{Forward, Told, port_of, service, spec},
};

/// Of the environment, keys outrank every profile.
const KEYS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
/// `sha1sum` of `corp`, by which the AWS CLI names the token of that session.
const TOKEN_FILE: &str = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";

/// A team profile with a role that wants MFA.
const ONCALL: &str = "aws: { role_arn: \"arn:aws:iam::123456789012:role/oncall\", mfa_serial: \"arn:aws:iam::123456789012:mfa/me\" }\n";

/// A sandbox whose user comes in by SSO.
fn service_with_sso() -> Service {
    let service = service();
    write(
        &service,
        ".aws/config",
        "[profile dev]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Operator\n\n\
         [profile old]\nsso_start_url = https://old.awsapps.com/start\nsso_region = eu-west-1\nsso_account_id = 123456789012\nsso_role_name = Operator\n\n\
         [profile chained]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = old\n\n\
         [sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = eu-west-1\nsso_registration_scopes = sso:account:access\n",
    );
    service
}

fn write(service: &Service, path: &str, text: &str) {
    let path = service.home().join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

/// `ops` on a terminal, without keys in its environment.
fn terminal(service: &Service, args: &[&str]) -> Terminal {
    Terminal::start_with(service, args, |command| {
        KEYS.into_iter()
            .fold(command, pty_process::blocking::Command::env_remove)
    })
}

/// `ops` without a terminal, and without keys in its environment.
fn piped(service: &Service, args: &[&str]) -> Command {
    let mut command = service.ops(args);
    for key in KEYS {
        command.env_remove(key);
    }
    command
}

/// Waits for a code behind the first `from` bytes, and confirms or denies it; gives where it stood.
fn answer_code(service: &Service, terminal: &Terminal, from: usize, answer: &str) -> usize {
    let at = terminal.wait_for_after(from, "confirm the code ");
    let end = terminal.wait_for_after(at, "http://127.0.0.1:");
    let output = terminal.output();
    let code = String::from_utf8_lossy(&output[at..at + 9]).into_owned();
    service.answer_code(&code, answer);
    end
}

/// Logs in by any command, as somebody would in another terminal.
fn log_in_elsewhere(service: &Service) {
    let mut other = terminal(service, &["--aws-profile", "dev", "ls"]);
    let asked = other.wait_for("Log in now? [Y/n] ");
    other.send("\r");
    let from = answer_code(service, &other, asked, "confirm");
    other.wait_for_after(from, "logged in");
    other.wait_for_after(from, "web-1");
    assert_eq!(other.wait(), Some(0));
}

fn token_file(service: &Service) -> PathBuf {
    service.home().join(TOKEN_FILE)
}

fn local(terminal: &Terminal) -> TcpStream {
    terminal.wait_for(" through web-1");
    connect(port_of(&String::from_utf8_lossy(&terminal.output())))
}

#[test]
fn an_expired_login_is_asked_for_once_and_the_tunnel_goes_on() {
    let (service, port) = (service_with_sso(), echo());
    let mut forward = terminal(
        &service,
        &["--aws-profile", "dev", "forward", "web-1", &spec(port)],
    );
    // Nobody has ever logged in here.
    let asked = forward.wait_for("AWS profile `dev` wants a login at its SSO. Log in now? [Y/n] ");
    forward.send("y\r");
    answer_code(&service, &forward, asked, "confirm");
    let mut stream = local(&forward);
    echoes(&mut stream);

    // As the AWS CLI writes it, for nobody else.
    let path = token_file(&service);
    let mode = std::fs::metadata(&path)
        .expect("a token")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let token: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a token")).expect("JSON");
    assert_eq!(token["startUrl"], "https://corp.awsapps.com/start");
    assert_eq!(token["region"], "eu-west-1");
    let end: jiff::Timestamp = token["expiresAt"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("a time");
    assert!(end > jiff::Timestamp::now());
    let secrets: Vec<String> = ["accessToken", "refreshToken", "clientSecret"]
        .map(|key| token[key].as_str().expect("a secret").to_owned())
        .to_vec();

    // The login ends, then the connection. What was typed before the question is no answer to it.
    forward.send("n\r");
    let seen = forward.output().len();
    service.expire();
    service.set_faults("cut-after=0,cuts=1");
    let asked = forward.wait_for_after(
        seen,
        "The SSO login of AWS profile `dev` has expired. Log in now? [Y/n] ",
    );
    forward.send("\r");
    let code = answer_code(&service, &forward, asked, "confirm");
    forward.wait_for_after(code, "logged in");
    forward.wait_for_after(code, "nothing was lost");
    echoes(&mut stream);
    forward.send("\x03");
    assert_eq!(forward.wait(), Some(130));
    let shown = String::from_utf8_lossy(&forward.output()).into_owned();
    assert_eq!(shown.matches("Log in now?").count(), 2, "{shown}");
    for secret in secrets {
        assert!(!shown.contains(&secret), "{shown}");
    }
}

#[test]
fn whoever_declines_a_login_is_not_asked_again_and_may_log_in_elsewhere() {
    let (service, port) = (service_with_sso(), echo());
    log_in_elsewhere(&service);
    let mut forward = terminal(
        &service,
        &["--aws-profile", "dev", "forward", "web-1", &spec(port)],
    );
    let mut stream = local(&forward);
    echoes(&mut stream);
    service.expire();
    service.set_faults("cut-after=0,cuts=1");
    let asked = forward.wait_for("Log in now? [Y/n] ");
    forward.send("n\r");
    let told = forward.wait_for_after(asked, "not back yet, trying on: the SSO login of AWS");
    // Attempts go on meanwhile.
    let before = service
        .calls()
        .iter()
        .filter(|call| *call == "GetRoleCredentials")
        .count();
    service.wait_for_calls("GetRoleCredentials", before + 2);
    log_in_elsewhere(&service);
    forward.wait_for_after(told, "nothing was lost");
    echoes(&mut stream);
    forward.send("\x03");
    assert_eq!(forward.wait(), Some(130));
    let shown = String::from_utf8_lossy(&forward.output()).into_owned();
    assert_eq!(shown.matches("Log in now?").count(), 1, "{shown}");
    assert_eq!(shown.matches("not back yet").count(), 1, "{shown}");
}

#[test]
fn a_login_made_elsewhere_answers_the_question() {
    let (service, port) = (service_with_sso(), echo());
    log_in_elsewhere(&service);
    let mut forward = terminal(
        &service,
        &["--aws-profile", "dev", "forward", "web-1", &spec(port)],
    );
    let mut stream = local(&forward);
    service.expire();
    service.set_faults("cut-after=0,cuts=1");
    let _ = std::io::Write::write_all(&mut stream, b"ping");
    forward.wait_for("Log in now? [Y/n] ");
    log_in_elsewhere(&service);
    forward.wait_for("nothing was lost");
    std::io::Read::read_exact(&mut stream, &mut [0; 4]).expect("an echo");
    forward.send("\x03");
    assert_eq!(forward.wait(), Some(130));
}

#[test]
fn without_a_terminal_a_tunnel_says_what_to_do_and_waits_for_a_login() {
    let (service, port) = (service_with_sso(), echo());
    let refused = piped(&service, &["--aws-profile", "dev", "ls"])
        .output()
        .expect("ops runs");
    assert_eq!(refused.status.code(), Some(4));
    log_in_elsewhere(&service);
    let mut child = piped(
        &service,
        &["--aws-profile", "dev", "forward", "web-1", &spec(port)],
    )
    .spawn()
    .expect("ops starts");
    let told = Told::by(&mut child);
    told.wait_for(" through web-1");
    let mut stream = connect(port_of(&told.so_far()));
    echoes(&mut stream);
    service.expire();
    service.set_faults("cut-after=0,cuts=1");
    told.wait_for("not back yet, trying on: the SSO login of AWS");
    let line = told.so_far();
    assert!(line.contains("log in: ops "), "{line}");
    log_in_elsewhere(&service);
    told.wait_for("nothing was lost");
    echoes(&mut stream);
    assert!(!told.so_far().contains("Log in now?"));
    child.kill().expect("it is running");
    child.wait().expect("its end");
}

#[test]
fn a_login_that_is_refused_says_so() {
    let service = service_with_sso();
    let mut list = terminal(&service, &["--aws-profile", "dev", "ls"]);
    let asked = list.wait_for("Log in now? [Y/n] ");
    list.send("y\r");
    let from = answer_code(&service, &list, asked, "deny");
    list.wait_for_after(from, "it was refused in the browser");
    assert_eq!(list.wait(), Some(4));
    assert!(!token_file(&service).exists());
    // And who says no has the hints that everybody gets without a terminal.
    let mut list = terminal(&service, &["--aws-profile", "dev", "ls"]);
    list.wait_for("Log in now? [Y/n] ");
    list.send("n\r");
    list.wait_for("log in: ops ");
    assert_eq!(list.wait(), Some(4));
    let mut quiet = terminal(&service, &["--aws-profile", "dev", "-q", "ls"]);
    assert_eq!(quiet.wait(), Some(4));
    assert!(!String::from_utf8_lossy(&quiet.output()).contains("Log in now?"));
}

#[test]
fn a_tunnel_that_is_interrupted_at_the_question_ends() {
    let (service, port) = (service_with_sso(), echo());
    log_in_elsewhere(&service);
    let mut forward = terminal(
        &service,
        &["--aws-profile", "dev", "forward", "web-1", &spec(port)],
    );
    echoes(&mut local(&forward));
    service.expire();
    service.set_faults("cut-after=0,cuts=1");
    let asked = forward.wait_for("Log in now? [Y/n] ");
    forward.send("y\r");
    forward.wait_for_after(asked, "confirm the code ");
    forward.send("\x03");
    assert_eq!(forward.wait(), Some(130));
    assert!(!String::from_utf8_lossy(&forward.output()).contains("not back yet"));
    let mut again = terminal(&service, &["--aws-profile", "dev", "ls"]);
    again.wait_for("Log in now? [Y/n] ");
    again.send("\x03");
    assert_eq!(again.wait(), Some(130));
    assert!(again.is_cooked());
}

#[test]
fn a_tunnel_in_the_background_of_its_shell_asks_nothing_and_is_not_stopped() {
    let (service, port) = (service_with_sso(), echo());
    log_in_elsewhere(&service);
    // Whoever reads from a terminal in the background is stopped by it.
    let script = format!(
        "set -m; {} --aws-profile dev forward web-1 {} & wait",
        service.program().display(),
        spec(port)
    );
    let command = pty_process::blocking::Command::new("bash")
        .args(["-c", &script])
        .env_clear()
        .envs(service.environment());
    let command = KEYS
        .into_iter()
        .fold(command, pty_process::blocking::Command::env_remove);
    let shell = Terminal::run(command);
    let mut stream = local(&shell);
    service.expire();
    service.set_faults("cut-after=0,cuts=1");
    shell.wait_for("not back yet, trying on: the SSO login of AWS");
    log_in_elsewhere(&service);
    shell.wait_for("nothing was lost");
    echoes(&mut stream);
    let shown = String::from_utf8_lossy(&shell.output()).into_owned();
    assert!(!shown.contains("Log in now?"), "{shown}");
    assert!(!shown.contains("1 connection "), "{shown}");
    let stopped = service.ops(&["forward", "--stop", "all"]).status();
    assert!(stopped.expect("ops runs").success());
}

#[test]
fn a_role_behind_a_profile_of_the_old_form_leads_to_its_login() {
    let service = service_with_sso();
    let mut list = terminal(&service, &["--aws-profile", "chained", "ls"]);
    let asked = list.wait_for("AWS profile `old` wants a login at its SSO. Log in now? [Y/n] ");
    list.send("y\r");
    let from = answer_code(&service, &list, asked, "confirm");
    list.wait_for_after(from, "web-1");
    assert_eq!(list.wait(), Some(0));
    // The next has what it needs.
    let mut again = terminal(&service, &["--aws-profile", "old", "ls"]);
    again.wait_for("web-1");
    assert_eq!(again.wait(), Some(0));
    service.expire();
    let mut late = terminal(&service, &["--aws-profile", "old", "ls"]);
    late.wait_for("The SSO login of AWS profile `old` has expired. Log in now? [Y/n] ");
    late.send("n\r");
    assert_eq!(late.wait(), Some(4));
}

#[test]
fn an_mfa_code_is_asked_for_while_a_tunnel_resumes() {
    let (service, port) = (service(), echo());
    write(&service, ".config/ops/profiles/oncall.yaml", ONCALL);
    let mut forward = Terminal::start(&service, &["-p", "oncall", "forward", "web-1", &spec(port)]);
    let asked = forward.wait_for("MFA code of arn:aws:iam::123456789012:mfa/me: ");
    forward.send("123456\r");
    let mut stream = local(&forward);
    echoes(&mut stream);
    service.expire();
    service.set_faults("cut-after=0,cuts=1");
    let asked = forward.wait_for_after(asked, "MFA code of arn:aws:iam::123456789012:mfa/me: ");
    // A slip is forgiven.
    forward.send("000000\r");
    forward.wait_for_after(asked, "That code was refused. MFA code of ");
    forward.send("123456\r");
    forward.wait_for_after(asked, "nothing was lost");
    echoes(&mut stream);
    forward.send("\x03");
    assert_eq!(forward.wait(), Some(130));
}

#[test]
fn without_a_terminal_a_tunnel_says_that_it_wants_a_code_and_takes_one_given_elsewhere() {
    let (service, port) = (service(), echo());
    write(&service, ".config/ops/profiles/oncall.yaml", ONCALL);
    let give_code = || {
        let mut other = Terminal::start(&service, &["-p", "oncall", "ls"]);
        other.wait_for("MFA code of ");
        other.send("123456\r");
        other.wait_for("web-1");
        assert_eq!(other.wait(), Some(0));
    };
    give_code();
    let forward = Forward::start(&service, &["-p", "oncall", "web-1", &spec(port)]);
    let mut stream = forward.connect();
    echoes(&mut stream);
    // What is cached ends with the credentials.
    std::fs::remove_dir_all(service.home().join(".cache/ops/credentials")).expect("a cache");
    service.expire();
    service.set_faults("cut-after=0,cuts=1");
    forward.told.wait_for("wants an MFA code (nobody can be asked here now); give the code to any ops command of the same profile in another terminal");
    give_code();
    forward.told.wait_for("nothing was lost");
    echoes(&mut stream);
    forward.end();
}
