//! Sessions that the account's preferences have encrypted with a KMS key.
//!
//! The sandbox's agent reads nothing that is not encrypted on such a session, so that whatever
//! works here went encrypted.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ops_tests::{
    noise,
    service::{Answer, Service},
    terminal::Terminal,
};

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");
const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/k";
/// That of `web-3` in the sandbox's own fleet.
const KEY_OF_WEB_3: &str =
    "arn:aws:kms:eu-west-1:123456789012:key/1a2b3c4d-5e6f-4a0b-8c1d-2e3f4a5b6c7d";

fn run_with(service: &Service, args: &[&str], input: &str, variable: Option<&str>) -> Answer {
    let mut command = service.ops(args);
    if let Some(url) = variable {
        command.env("AWS_ENDPOINT_URL_KMS", url);
    }
    Answer::of(service, command, input)
}

fn run(service: &Service, args: &[&str], input: &str) -> Answer {
    run_with(service, args, input, None)
}

fn keys_made(service: &Service) -> usize {
    let calls = service.calls();
    calls
        .iter()
        .filter(|call| *call == "GenerateDataKey")
        .count()
}

#[test]
fn a_piped_shell_is_encrypted_with_the_key_of_its_server() {
    // Strict: digests and lengths are those of the ciphertext.
    let service = Service::start(OPS, "strict");
    let answer = run(&service, &["shell", "web-3"], "echo so''me words\n");
    answer.ends_with(0);
    assert!(answer.stdout.contains("some words"), "{}", answer.stdout);
    assert!(!answer.stderr.contains("encrypted"), "{}", answer.stderr);
    assert_eq!(keys_made(&service), 1);
    // With -v it is said which key it is, and once.
    let answer = run(&service, &["-v", "shell", "web-3"], "exit\n");
    let told = format!("encrypted with {KEY_OF_WEB_3}");
    assert_eq!(answer.stderr.matches(&told).count(), 1, "{}", answer.stderr);
    // The server beside it has no key.
    run(&service, &["shell", "web-1"], "exit\n").ends_with(0);
    assert_eq!(keys_made(&service), 2);
}

#[test]
fn every_line_of_an_encrypted_shell_arrives_over_connections_that_are_cut() {
    let service = Service::start(OPS, &format!("kms={KEY},cut-after=12,cuts=2"));
    let mut terminal = Terminal::start(&service, &["shell", "web-1"]);
    // Few lines: the agent sends what a cut has cost one message each tenth of a second.
    // A shell that ends leaves its agent two seconds to repair what a cut has cost, so that this
    // one ends once everything has come.
    terminal.send("stty -echo; echo; seq -f n%.0f 1 600; echo all of th''em\r");
    terminal.wait_for("all of them");
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));
    let output = String::from_utf8_lossy(&terminal.output()).into_owned();
    let lines = output
        .lines()
        .filter_map(|line| line.trim().strip_prefix('n'));
    let numbers: Vec<u32> = lines.filter_map(|digits| digits.parse().ok()).collect();
    let all: Vec<u32> = (1..=600).collect();
    assert!(
        numbers == all,
        "{} lines, other than were printed",
        numbers.len()
    );
    assert_eq!(keys_made(&service), 1, "a resumed session keeps its key");
    assert!(service.calls().contains(&"ResumeSession".to_owned()));
}

#[test]
fn an_encrypted_shell_on_a_terminal_goes_on_after_a_cut() {
    let service = Service::start(OPS, "");
    let mut terminal = Terminal::start(&service, &["shell", "web-3"]);
    terminal.wait_for("web-3:~$ ");
    terminal.resize(132, 50);
    terminal.send("echo columns $(tput cols)\r");
    terminal.wait_for("columns 132");
    service.set_faults("cut-after=1");
    terminal.send("echo after''wards\r");
    terminal.wait_for("afterwards");
    service.wait_for_call("ResumeSession");
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));
    assert_eq!(keys_made(&service), 1);
}

#[test]
fn a_copy_by_session_is_encrypted_both_ways_and_every_byte_arrives() {
    let service = Service::start(OPS, &format!("kms={KEY},cut-after=300,cuts=1"));
    let bytes = noise(3 << 20);
    std::fs::write(service.home().join("up"), &bytes).expect("a file");
    let there = service.home().join("there").display().to_string();
    let remote = format!("web-1:{there}");
    run(&service, &["cp", "--via", "session", "up", &remote], "").ends_with(0);
    assert!(std::fs::read(&there).expect("a copy") == bytes);
    run(&service, &["cp", "--via", "session", &remote, "down"], "").ends_with(0);
    let down = std::fs::read(service.home().join("down"));
    assert!(down.expect("a copy") == bytes);
    assert!(keys_made(&service) >= 2);
}

#[test]
fn a_tunnel_is_never_encrypted() {
    let service = Service::start(OPS, &format!("kms={KEY},deny=kms:GenerateDataKey"));
    run(&service, &["forward", "web-1", "0:80", "--", "true"], "").ends_with(0);
    assert_eq!(keys_made(&service), 0);
}

#[test]
fn agents_may_offer_a_text_for_the_context_or_not_or_insist_on_it() {
    for challenge in [
        "",
        ",kms-challenge=none",
        ",kms-challenge=required",
        ",odd-json",
    ] {
        let service = Service::start(OPS, &format!("kms={KEY}{challenge}"));
        let answer = run(&service, &["shell", "web-1"], "echo so''me words\n");
        answer.ends_with(0);
        assert!(answer.stdout.contains("some words"), "{challenge}");
    }
}

#[test]
fn a_denied_key_is_told_with_the_statement_that_allows_it() {
    let service = Service::start(OPS, &format!("kms={KEY},deny=kms:GenerateDataKey"));
    std::fs::write(service.home().join("file"), "text").expect("a file");
    for args in [
        &["shell", "web-1"][..],
        &["cp", "--via", "session", "file", "web-1:/tmp/"],
        &["wait", "web-1", "--for", "session", "--timeout", "1h"],
    ] {
        let answer = run(&service, args, "rm -rf nothing\n");
        answer.ends_with(5);
        answer.tells([
            &format!("demand encryption with the KMS key `{KEY}`"),
            "kms:GenerateDataKey answered AccessDeniedException",
            &format!(r#""Action":"kms:GenerateDataKey","Resource":"{KEY}""#),
        ]);
    }
    let sessions = service.sessions();
    let ended = |status: &String| status.starts_with("Terminat");
    assert!(sessions.iter().all(ended), "{sessions:?}");
}

#[test]
fn a_server_whose_role_may_not_decrypt_is_told_from_a_caller_who_may_not_encrypt() {
    let service = Service::start(OPS, &format!("kms={KEY},deny=kms:Decrypt"));
    let answer = run(&service, &["shell", "web-1"], "exit\n");
    answer.ends_with(7);
    answer.tells([
        "is not authorized to perform: kms:Decrypt",
        &format!("the server's role lacks `kms:Decrypt` on `{KEY}`"),
        &format!(r#""Action":"kms:Decrypt","Resource":"{KEY}""#),
    ]);
}

#[test]
fn a_key_that_is_good_for_nothing_is_told_with_what_to_do() {
    for (state, code, words) in [
        ("disabled", "DisabledException", "aws kms enable-key"),
        (
            "pending-deletion",
            "KMSInvalidStateException",
            "to be deleted",
        ),
        ("deleted", "NotFoundException", "there is no such key"),
    ] {
        let service = Service::start(OPS, &format!("kms={KEY},kms-state={state}"));
        let answer = run(&service, &["shell", "web-1"], "exit\n");
        answer.ends_with(7);
        answer.tells([code, words, KEY, "session preferences"]);
    }
}

#[test]
fn a_key_in_another_region_is_asked_for_there_and_the_server_cannot_use_it() {
    let key = "arn:aws:kms:us-east-1:123456789012:key/k";
    let service = Service::start(OPS, &format!("kms={key}"));
    let answer = run(&service, &["shell", "web-1"], "exit\n");
    answer.ends_with(7);
    answer.tells([
        &format!(
            "the KMS key `{key}` is in region `us-east-1`, and the server asks KMS in `eu-west-1`"
        ),
        "NotFoundException",
    ]);
    assert_eq!(keys_made(&service), 1);
    // On a server of that region it is the right one.
    run(
        &service,
        &["--region", "us-east-1", "shell", "edge-1"],
        "exit\n",
    )
    .ends_with(0);
}

#[test]
fn a_throttled_call_is_repeated_within_the_time_that_the_agent_waits() {
    let service = Service::start(OPS, &format!("kms={KEY},throttle=kms:GenerateDataKey/2"));
    run(&service, &["shell", "web-1"], "exit\n").ends_with(0);
    assert_eq!(keys_made(&service), 3);
    service.set_faults(&format!("kms={KEY},throttle=kms:GenerateDataKey/99"));
    let answer = run(&service, &["shell", "web-1"], "exit\n");
    answer.ends_with(1);
    answer.tells(["kms:GenerateDataKey answered ThrottlingException", KEY]);
}

#[test]
fn the_endpoint_of_kms_is_that_of_the_environment_or_the_profile() {
    let service = Service::start(OPS, &format!("kms={KEY}"));
    let nowhere = "http://127.0.0.1:9";
    let answer = run_with(&service, &["shell", "web-1"], "exit\n", Some(nowhere));
    answer.ends_with(1);
    answer.tells(["kms:GenerateDataKey", KEY]);
    assert_eq!(keys_made(&service), 0);
    let profiles = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&profiles).expect("a folder");
    let profile = format!("aws: {{ endpoints: {{ kms: \"{nowhere}\" }} }}\n");
    std::fs::write(profiles.join("kms.yaml"), profile).expect("a profile");
    let answer = run(&service, &["-p", "kms", "shell", "web-1"], "exit\n");
    answer.ends_with(1);
    answer.tells(["kms:GenerateDataKey", KEY]);
    // To another machine it goes by TLS alone.
    let answer = run_with(&service, &["ls"], "", Some("http://kms.example"));
    answer.ends_with(2);
}

/// A way to the sandbox for calls of KMS: the first of them is answered with an error in place of
/// passing on, the others arrive as they are, signature and all.
struct KmsDoor {
    url: String,
    /// Connections so far.
    count: Arc<AtomicUsize>,
}

impl KmsDoor {
    fn open(service: &Service, first_answer: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let environment = service.environment();
        let sandbox = environment
            .iter()
            .find_map(|(name, value)| (name == "AWS_ENDPOINT_URL").then(|| value.to_str()))
            .flatten()
            .and_then(|url| url.strip_prefix("http://"))
            .expect("an address")
            .to_owned();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                match first_answer.filter(|_| number == 0) {
                    Some(code) => refuse(client, code),
                    None => pass_on(client, &sandbox),
                }
            }
        });
        Self { url, count }
    }

    fn was_used(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }
}

fn refuse(mut client: TcpStream, code: &str) {
    let mut request = [0; 16 << 10];
    let _ = client.read(&mut request);
    let body = format!(r#"{{"__type":"{code}","message":"it has expired"}}"#);
    let _ = write!(
        client,
        "HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn pass_on(mut client: TcpStream, sandbox: &str) {
    let mut server = TcpStream::connect(sandbox).expect("the sandbox");
    let (mut from, mut to) = (
        client.try_clone().expect("a socket"),
        server.try_clone().expect("a socket"),
    );
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    std::thread::spawn(move || std::io::copy(&mut server, &mut client));
}

#[test]
fn credentials_that_kms_calls_expired_are_renewed_and_the_call_is_made_again() {
    let service = Service::start(OPS, &format!("kms={KEY}"));
    let door = KmsDoor::open(&service, Some("ExpiredTokenException"));
    let home = service.home();
    let environment = service.environment();
    let value = |wanted: &str| {
        let found = environment.iter().find(|(name, _)| name == wanted);
        found
            .expect("a variable")
            .1
            .to_str()
            .expect("text")
            .to_owned()
    };
    let program = home.join("give-credentials");
    std::fs::write(
        &program,
        format!(
            "#!/bin/sh\necho run >>'{}'\necho '{{\"Version\":1,\"AccessKeyId\":\"{}\",\"SecretAccessKey\":\"{}\"}}'\n",
            home.join("runs").display(),
            value("AWS_ACCESS_KEY_ID"),
            value("AWS_SECRET_ACCESS_KEY"),
        ),
    )
    .expect("a program");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).expect("a mode");
    std::fs::create_dir_all(home.join(".aws")).expect("a folder");
    let config = format!("[profile p]\ncredential_process = {}\n", program.display());
    std::fs::write(home.join(".aws/config"), config).expect("a file");
    let mut command = service.ops(&["--aws-profile", "p", "shell", "web-1"]);
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env("AWS_ENDPOINT_URL_KMS", &door.url);
    let output = command.output().expect("an end");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(door.count.load(Ordering::SeqCst), 2, "{told}");
    assert_eq!(keys_made(&service), 1);
    let runs = std::fs::read_to_string(home.join("runs")).expect("a file");
    assert_eq!(runs.lines().count(), 2, "{told}");
}

#[test]
fn the_call_of_kms_goes_where_the_environment_or_the_profile_says() {
    let service = Service::start(OPS, &format!("kms={KEY}"));
    let door = KmsDoor::open(&service, None);
    let answer = run_with(&service, &["shell", "web-1"], "exit\n", Some(&door.url));
    answer.ends_with(0);
    assert!(door.was_used());
    let door = KmsDoor::open(&service, None);
    let profiles = service.home().join(".config/ops/profiles");
    std::fs::create_dir_all(&profiles).expect("a folder");
    let profile = format!("aws: {{ endpoints: {{ kms: \"{}\" }} }}\n", door.url);
    std::fs::write(profiles.join("kms.yaml"), profile).expect("a profile");
    run(&service, &["-p", "kms", "shell", "web-1"], "exit\n").ends_with(0);
    assert!(door.was_used());
    assert_eq!(keys_made(&service), 2);
}

/// What a shell is given that must not run: nothing of it reaches a server in clear.
fn shell_is_refused(service: &Service, words: [&str; 2]) {
    let answer = run(service, &["shell", "web-1"], "touch ran\nexit\n");
    answer.ends_with(9);
    answer.tells(["the session on `web-1` is not opened"]);
    answer.tells(words);
    assert!(!service.home().join("ran").exists());
    let sessions = service.sessions();
    assert!(!sessions.contains(&"Connected".to_owned()), "{sessions:?}");
}

#[test]
fn a_session_in_clear_is_refused_where_those_before_it_were_encrypted() {
    let service = Service::start(OPS, &format!("kms={KEY}"));
    run(&service, &["shell", "web-1"], "exit\n").ends_with(0);
    run(&service, &["exec", "web-1", "--", "true"], "").ends_with(0);
    service.set_faults(&format!("kms={KEY},kms-skip"));
    let told = format!("are encrypted with the KMS key `{KEY}`");
    shell_is_refused(&service, [&told, "this one was not"]);
    let answer = run(&service, &["exec", "web-1", "--", "touch", "ran"], "");
    answer.tells([&told, "`AWS-StartNonInteractiveCommand`"]);
    assert!(!service.home().join("ran").exists());
    // Tunnels are never encrypted, and nothing is refused to them.
    run(&service, &["forward", "web-1", "0:80", "--", "true"], "").ends_with(0);
    // Whoever may not read the preferences knows no better than before, and is told how to.
    service.set_faults("kms-skip,deny=ssm:GetDocument");
    shell_is_refused(&service, ["aws ssm get-document", "rm "]);
}

#[test]
fn an_account_that_has_given_up_its_key_has_sessions_in_clear() {
    let service = Service::start(OPS, &format!("kms={KEY}"));
    run(&service, &["shell", "web-1"], "exit\n").ends_with(0);
    service.set_faults("");
    let looks = || {
        let calls = service.calls();
        calls.iter().filter(|call| *call == "GetDocument").count()
    };
    for _ in 0..2 {
        run(&service, &["shell", "web-1"], "exit\n").ends_with(0);
        assert_eq!(looks(), 1, "the preferences are read once");
    }
}

#[test]
fn preferences_that_were_read_are_enough_to_refuse_a_first_session_in_clear() {
    let service = Service::start(OPS, &format!("kms={KEY},kms-skip"));
    // Nobody knows better yet.
    run(&service, &["shell", "web-1"], "exit\n").ends_with(0);
    run(&service, &["doctor", "web-1"], "");
    shell_is_refused(&service, [KEY, "this one was not"]);
}

#[test]
fn a_key_of_another_account_than_before_is_refused() {
    let service = Service::start(OPS, &format!("kms={KEY}"));
    run(&service, &["shell", "web-1"], "exit\n").ends_with(0);
    // The account's own new key is as good as the old one.
    let renewed = KEY.replace("key/k", "key/renewed");
    service.set_faults(&format!("kms={renewed}"));
    run(&service, &["shell", "web-1"], "exit\n").ends_with(0);
    let foreign = KEY.replace("123456789012", "999999999999");
    service.set_faults(&format!("kms={foreign}"));
    shell_is_refused(&service, [&foreign, "a key of another account"]);
}
