//! Logins at the SSO, made and ended.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, ChildStderr, Command},
};

use ops_tests::service::Service;
use serde_json::Value;

use crate::{KEYS, OPS, browser::get, run, without_keys, write};

/// `sha1sum` of `corp`, by which the AWS CLI names the token of that session.
const TOKEN_FILE: &str = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
const CONFIG: &str = "\
[profile dev]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = Operator
[profile prod]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = Auditor
[profile old]
sso_start_url = https://old.awsapps.com/start
sso_region = eu-west-1
sso_account_id = 123456789012
sso_role_name = Operator
[profile console]
login_session = arn:aws:iam::123456789012:user/me
[sso-session corp]
sso_start_url = https://corp.awsapps.com/start
sso_region = eu-west-1
sso_registration_scopes = sso:account:access
";

fn service_with_sso() -> Service {
    let service = Service::start(OPS, "");
    write(&service, ".aws/config", CONFIG);
    service
}

/// `ops` as an AWS profile, without keys in the environment.
fn as_profile(service: &Service, profile: &str, args: &[&str]) -> Command {
    without_keys(service, &[&["--aws-profile", profile], args].concat())
}

/// A login that waits for somebody, and what it has told.
struct Waiting {
    child: Child,
    stderr: BufReader<ChildStderr>,
    told: String,
}

impl Waiting {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("ops starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        Self {
            child,
            stderr,
            told: String::new(),
        }
    }

    /// The rest of the line behind `words`.
    fn told_behind(&mut self, words: &str) -> String {
        loop {
            let begin = self.told.len();
            let count = self.stderr.read_line(&mut self.told).expect("a line");
            assert_ne!(count, 0, "it ended without `{words}`: {}", self.told);
            if let Some((_, rest)) = self.told[begin..].split_once(words) {
                return rest.trim_end().to_owned();
            }
        }
    }

    /// The status it ends with, and all it has told.
    fn end(mut self) -> (Option<i32>, String) {
        while self.stderr.read_line(&mut self.told).expect("a line") > 0 {}
        (self.child.wait().expect("its end").code(), self.told)
    }
}

/// Logs in by a code, as the AWS profile `profile`.
fn log_in(service: &Service, profile: &str) -> String {
    let mut command = as_profile(service, profile, &["login", "--use-device-code"]);
    let mut login = Waiting::start(&mut command);
    let line = login.told_behind("confirm the code ");
    let code = line.split(' ').next().expect("a code");
    service.answer_code(code, "confirm");
    let (status, told) = login.end();
    assert_eq!(status, Some(0), "{told}");
    told
}

fn token_file(service: &Service) -> PathBuf {
    service.home().join(TOKEN_FILE)
}

#[test]
fn a_login_by_a_code_is_good_for_every_profile_of_its_session() {
    let service = service_with_sso();
    let told = log_in(&service, "dev");
    assert!(told.contains("logged in to `corp` until "), "{told}");
    assert!(told.contains("for AWS profiles `dev`, `prod`"), "{told}");
    let who = run(&mut as_profile(&service, "prod", &["whoami", "-o", "json"])).succeeds();
    let who = who.json();
    for (field, value) in [
        ("account", "123456789012"),
        ("accountAlias", "ops-sandbox"),
        (
            "arn",
            "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Auditor_0123456789abcdef/sandbox",
        ),
        ("awsProfile", "prod"),
        ("source", "sso"),
        ("sourceDetail", "SSO login `corp`, role Auditor"),
        ("region", "eu-west-1"),
    ] {
        assert_eq!(who[field], value, "{who:#}");
    }
    let time = |field: &str| -> jiff::Timestamp {
        let text = who[field].as_str().expect(field);
        text.parse().expect(field)
    };
    assert!(time("expires") > jiff::Timestamp::now());
    assert!(time("loginEnds") > time("expires"));
    // An account whose alias may not be read has its number all the same.
    service.set_faults("deny=iam:ListAccountAliases");
    let who = run(&mut as_profile(&service, "dev", &["whoami"])).succeeds();
    assert!(!who.stdout.contains("ops-sandbox"), "{}", who.stdout);
    for word in ["123456789012", "role Operator", "login ends"] {
        assert!(who.stdout.contains(word), "{word}: {}", who.stdout);
    }
}

/// A login in the browser that waits: its command, and the page on which the browser waits.
fn in_the_browser(service: &Service) -> (Waiting, String) {
    let mut command = as_profile(service, "dev", &["login"]);
    // A browser that opens nothing: the test follows the page itself.
    let mut login = Waiting::start(command.env("BROWSER", "true"));
    let page = login.told_behind("log in at ");
    let begun = get(&page);
    assert_eq!(begun.status, 302, "{}", begun.body);
    (login, begun.location.expect("a page to wait on"))
}

fn user_code(page: &str) -> &str {
    page.split_once("user_code=").expect(page).1
}

#[test]
fn the_browser_brings_a_login_back_by_itself() {
    let service = service_with_sso();
    let (login, waiting) = in_the_browser(&service);
    assert_eq!(get(&waiting).status, 200);
    service.answer_code(user_code(&waiting), "confirm");
    let back = get(&waiting).location.expect("the way back");
    let (home, query) = back.split_once('?').expect(&back);
    assert!(home.starts_with("http://127.0.0.1:"), "{back}");
    assert!(home.ends_with("/oauth/callback"), "{back}");
    // Somebody else's guess changes nothing.
    let code = query.split('&').next().expect("a code");
    assert_eq!(get(&format!("{home}?{code}&state=guess")).status, 404);
    let page = get(&back);
    assert_eq!(page.status, 200);
    assert!(page.body.contains("You have logged in"), "{}", page.body);
    let (status, told) = login.end();
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("logged in to `corp`"), "{told}");
    let calls = service.calls();
    assert!(!calls.iter().any(|call| call == "StartDeviceAuthorization"));
    let token = std::fs::read(token_file(&service)).expect("a token");
    let token: Value = serde_json::from_slice(&token).expect("JSON");
    let fields: Vec<&String> = token.as_object().expect("an object").keys().collect();
    for field in [
        "startUrl",
        "region",
        "accessToken",
        "expiresAt",
        "clientId",
        "clientSecret",
        "registrationExpiresAt",
        "refreshToken",
    ] {
        assert!(fields.iter().any(|known| *known == field), "{fields:?}");
    }
    run(&mut as_profile(&service, "dev", &["ls"])).succeeds();
}

#[test]
fn a_login_that_is_refused_on_the_page_says_so() {
    let service = service_with_sso();
    let (login, waiting) = in_the_browser(&service);
    service.answer_code(user_code(&waiting), "deny");
    let back = get(&waiting).location.expect("the way back");
    assert_eq!(get(&back).status, 200);
    let (status, told) = login.end();
    assert_eq!(status, Some(4), "{told}");
    assert!(told.contains("`access_denied`"), "{told}");
    assert!(!token_file(&service).exists());
}

#[test]
fn a_logout_ends_the_login_at_the_service() {
    let service = service_with_sso();
    let log_out = || {
        run(&mut as_profile(&service, "dev", &["logout"]))
            .succeeds()
            .stderr
    };
    assert!(log_out().contains("nobody is logged in to `corp` here"));
    log_in(&service, "dev");
    let token = std::fs::read(token_file(&service)).expect("a token");
    let told = log_out();
    assert!(
        told.contains("logged out of `corp`, for AWS profiles `dev`, `prod`"),
        "{told}"
    );
    assert!(!token_file(&service).exists());
    assert!(service.calls().iter().any(|call| call == "Logout"));
    run(&mut as_profile(&service, "dev", &["whoami"])).fails(4, &["--aws-profile dev login"]);
    // Whoever kept the token has nothing of it, nor of the one that would bring another.
    std::fs::write(token_file(&service), token).expect("written");
    run(&mut as_profile(&service, "dev", &["whoami"])).fails(4, &[]);
    let told = log_out();
    assert!(told.contains("had ended already"), "{told}");
}

#[test]
fn a_logout_of_all_ends_what_the_configuration_has_forgotten_too() {
    let service = service_with_sso();
    let log_out = || run(&mut as_profile(&service, "dev", &["logout", "--all"]));
    assert!(
        log_out()
            .succeeds()
            .stderr
            .contains("nobody is logged in here")
    );
    log_in(&service, "dev");
    let corp = std::fs::read(token_file(&service)).expect("a token");
    // The same token once more, of a session that was taken out of the configuration; and what is
    // no token, which stays.
    let cache = token_file(&service).parent().expect("a folder").to_owned();
    std::fs::write(cache.join("forgotten.json"), &corp).expect("written");
    let registration = cache.join("registration.json");
    std::fs::write(&registration, "{\"clientId\": \"x\"}").expect("written");
    // A region that is no region is no host's name to send a token to.
    let odd = String::from_utf8(corp).expect("text");
    let odd = odd.replace("eu-west-1", "evil.example/");
    std::fs::write(cache.join("odd.json"), odd).expect("written");
    let told = log_out().succeeds().stderr;
    for words in [
        "logged out of `corp`, for AWS profiles `dev`, `prod`",
        "the login to `https://corp.awsapps.com/start` had ended already",
    ] {
        assert!(told.contains(words), "{told}");
    }
    assert!(!told.contains("old.awsapps.com"), "{told}");
    assert!(!token_file(&service).exists());
    assert!(!cache.join("forgotten.json").exists());
    assert!(registration.exists());
    run(&mut as_profile(&service, "dev", &["whoami"])).fails(4, &["--aws-profile dev login"]);
}

#[test]
fn what_a_login_means_for_other_profiles_is_told() {
    let service = service_with_sso();
    let done = run(&mut service.ops(&["login"])).succeeds();
    assert!(
        done.stderr.contains("nothing to log in to"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("AWS_ACCESS_KEY_ID"), "{}", done.stderr);
    run(&mut as_profile(&service, "console", &["login"]))
        .fails(4, &["login_session", "aws login --profile console"]);
    run(&mut service.ops(&["login", "--sso-session", "none"])).fails(2, &["`none`"]);
    run(&mut as_profile(&service, "missing", &["login"])).fails(2, &["`missing`"]);
    // A login of the old form has no browser's grant.
    let mut command = as_profile(&service, "old", &["login"]);
    let mut login = Waiting::start(command.env("BROWSER", "true"));
    let line = login.told_behind("confirm the code ");
    service.answer_code(line.split(' ').next().expect("a code"), "confirm");
    let (status, told) = login.end();
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("for AWS profile `old`"), "{told}");
    let mut both = as_profile(&service, "old", &["whoami", "-o", "json"]);
    for key in KEYS {
        both.env(key, "AKIDEXAMPLE");
    }
    // A profile that is named outranks the environment.
    assert_eq!(run(&mut both).succeeds().json()["source"], "sso");
}

/// A token service that answers with what no honest one would.
fn hostile_token_service(page: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            let mut head = String::new();
            while reader.read_line(&mut head).is_ok_and(|len| len > 2) {}
            let (status, body) = if head.contains("/client/register") {
                let body =
                    r#"{"clientId":"c","clientSecret":"s","clientSecretExpiresAt":9999999999}"#;
                ("200 OK", body.to_owned())
            } else if head.contains("/device_authorization") {
                let body = format!(
                    r#"{{"deviceCode":"d","userCode":"A\u001b[31mB\u001b]0;x\u0007","verificationUri":"{page}","verificationUriComplete":"{page}","expiresIn":60,"interval":1}}"#
                );
                ("200 OK", body)
            } else {
                (
                    "400 Bad Request",
                    r#"{"error":"access_denied","error_description":"no\u001b[2J"}"#.to_owned(),
                )
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nx-amzn-ErrorType: AccessDeniedException\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    format!("http://{address}")
}

/// Only pages are opened, by a program and no shell, and nothing of the answers moves the cursor.
#[test]
fn a_hostile_page_is_neither_run_nor_obeyed() {
    let service = service_with_sso();
    let opened = service.home().join("opened");
    let browser = write(
        &service,
        "browser",
        &format!(
            "#!/bin/sh\nprintf '%s\\n' \"$#\" \"$@\" >> '{}'\n",
            opened.display()
        ),
    );
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o700)).expect("its mode");
    let touched = service.home().join("touched");
    for (page, is_opened) in [
        ("javascript:alert(1)", false),
        ("file:///etc/passwd", false),
        ("http://plain.example/device", false),
        ("--help", false),
        (
            "https://device.example/?code=$(touch${IFS}touched)`touch touched`;touch\\u001b[2J",
            true,
        ),
    ] {
        let _ = std::fs::remove_file(&opened);
        let mut command = as_profile(&service, "dev", &["login", "--use-device-code"]);
        command
            .current_dir(service.home())
            .env("BROWSER", &browser)
            .env("AWS_ENDPOINT_URL_SSO_OIDC", hostile_token_service(page));
        let done = run(&mut command);
        assert_eq!(done.status, Some(4), "{page}: {}", done.stderr);
        assert!(
            !done.stderr.contains('\u{1b}') && !done.stderr.contains('\u{7}'),
            "{:?}",
            done.stderr
        );
        assert!(done.stderr.contains("confirm the code"), "{}", done.stderr);
        assert!(!touched.exists(), "{page}");
        let args = std::fs::read_to_string(&opened).unwrap_or_default();
        assert_eq!(
            args.starts_with("1\nhttps://device.example/"),
            is_opened,
            "{page}: {args}"
        );
        assert_eq!(args.is_empty(), !is_opened, "{page}: {args}");
    }
}

/// What lies where the token is wanted may be anything.
#[test]
fn a_cache_of_tokens_that_is_none_is_no_login() {
    let service = service_with_sso();
    let file = token_file(&service);
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    let whole = r#"{"startUrl":"https://corp.awsapps.com/start\u001b[2J","region":"eu-west-1","accessToken":"\u001b]0;x\u0007","expiresAt":"2099-01-01T00:00:00Z"}"#;
    for text in [
        "",
        "{",
        "null",
        "[1]",
        "{\"accessToken\":1}",
        &"[".repeat(200_000),
        whole,
    ] {
        std::fs::write(&file, text).expect("a file");
        let done = run(&mut as_profile(&service, "dev", &["whoami"]));
        assert_ne!(done.status, Some(0), "{text}");
        assert!(
            done.status.is_some(),
            "{text}: a signal ended it: {}",
            done.stderr
        );
        assert!(!done.stderr.contains('\u{1b}'), "{text}: {:?}", done.stderr);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    }
    // A login puts its own in place, for its owner alone, and leaves no second file.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("its mode");
    log_in(&service, "dev");
    let mode = std::fs::metadata(&file)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let there = std::fs::read_dir(file.parent().expect("a folder")).expect("a folder");
    let names: Vec<_> = there.flatten().map(|entry| entry.file_name()).collect();
    assert!(
        names
            .iter()
            .all(|name| name.to_string_lossy().ends_with(".json")),
        "{names:?}"
    );
}
