//! The configuration of AWS as people have it. The files in `tests/data/aws` are read by the AWS
//! CLI too: `tests/independent/aws-config` holds `ops` against it.

use std::{io::Write as _, net::TcpListener, path::PathBuf};

use ops_tests::{Done, Lab, Run, ports::ClosedPort};

/// Files whose profiles the AWS CLI lists with, and those profiles.
const READ_BY_THE_CLI: &[(&str, &[&str])] = &[
    ("indented", &["shop"]),
    ("indented-elsewhere", &["default"]),
    ("note-behind-bracket", &["shop"]),
    ("colon-sep", &["default"]),
    ("crlf", &["shop"]),
    ("services", &["shop"]),
    (
        "names",
        &[
            "admin@shop",
            "Shop/PowerUser",
            "a:b",
            "111122223333/Retail-Admins/jo@example.com",
            "Two Words",
            "Single Quoted",
            "größe",
            "dotted.name",
            "a&b",
            "a=b",
        ],
    ),
    ("chain", &["default", "hub", "spoke", "ext"]),
    ("odd-values", &["default"]),
];

/// Variables of the AWS tools that a wrapper or a `.env` file sets to nothing.
const SET_TO_NOTHING: [&str; 24] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_EC2",
    "AWS_ENDPOINT_URL_SSM",
    "AWS_ENDPOINT_URL_STS",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_MAX_ATTEMPTS",
    "AWS_RETRY_MODE",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
];

/// A user with a served sandbox, and nothing that says so but files of AWS.
struct Shop {
    lab: Lab,
    access: Vec<(&'static str, String)>,
}

impl Shop {
    fn open() -> Self {
        let lab = Lab::with_sandbox();
        let served = lab.ops(["sandbox", "env", "-o", "json"]).output().json();
        let access = [
            ("@EP@", "AWS_ENDPOINT_URL"),
            ("@KEY@", "AWS_ACCESS_KEY_ID"),
            ("@SECRET@", "AWS_SECRET_ACCESS_KEY"),
        ]
        .map(|(mark, name)| (mark, served[name].as_str().expect("a text").to_owned()))
        .into();
        Self { lab, access }
    }

    /// Writes a file of `tests/data/aws`, byte for byte but for the marks.
    fn file(&self, name: &str) -> PathBuf {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("data/aws/{name}.conf"));
        let mut bytes = std::fs::read(path).expect("a case");
        let folder = self.lab.home().display().to_string();
        let marks = self.access.iter().map(|(mark, value)| (*mark, value));
        for (mark, value) in marks.chain([("@DIR@", &folder)]) {
            while let Some(at) = bytes.windows(mark.len()).position(|w| w == mark.as_bytes()) {
                bytes.splice(at..at + mark.len(), value.bytes());
            }
        }
        self.lab.write(&format!("{name}.conf"), bytes)
    }

    fn run<'a>(&'a self, file: &str, arguments: &[&str]) -> Run<'a> {
        let run = self.lab.ops(arguments).without("OPS_SANDBOX");
        run.env("AWS_CONFIG_FILE", self.file(file))
    }

    fn list(&self, file: &str, profile: &str) -> Done {
        self.run(file, &["-p", profile, "ls", "-o", "name"])
            .output()
    }
}

/// Whether the names of the default fleet came, and nothing was said.
#[track_caller]
fn is_the_list(done: &Done) {
    assert!(done.status == 0 && done.stderr.is_empty(), "{done}");
    assert!(done.stdout.lines().any(|name| name == "web-1"), "{done}");
}

#[track_caller]
fn fails(done: &Done, status: i32, words: &[&str], not: &[&str]) {
    assert_eq!(done.status, status, "{done}");
    for word in words {
        assert!(done.stderr.contains(word), "no {word:?} in {done}");
    }
    for word in not {
        assert!(!done.stderr.contains(word), "{word:?} in {done}");
    }
}

#[test]
fn what_the_aws_cli_reads_is_read() {
    let shop = Shop::open();
    for (file, profiles) in READ_BY_THE_CLI {
        for profile in *profiles {
            is_the_list(&shop.list(file, profile));
            let named = shop.run(file, &["ls", "-o", "name"]);
            is_the_list(&named.env("AWS_PROFILE", profile).output());
        }
    }
}

#[test]
fn a_slip_in_a_profile_that_is_not_used_stops_nothing() {
    let shop = Shop::open();
    let with_keys = |file: &str| {
        let value = |mark: &str| &shop.access.iter().find(|(m, _)| *m == mark).expect("one").1;
        shop.run(file, &["ls", "-o", "name"])
            .env("AWS_ACCESS_KEY_ID", value("@KEY@"))
            .env("AWS_SECRET_ACCESS_KEY", value("@SECRET@"))
            .env("AWS_ENDPOINT_URL", value("@EP@"))
            .env("AWS_REGION", "eu-west-1")
            .output()
    };
    for file in [
        "indented",
        "indented-elsewhere",
        "latin1",
        "sso",
        "chain",
        "bom",
    ] {
        is_the_list(&with_keys(file));
    }
    // The same slips in the credentials file.
    let credentials = shop.lab.write(
        "credentials",
        "[other]\n   aws_access_key_id: x\n\tstray\n[open\nkey\n",
    );
    let run = shop.run("crlf", &["-p", "shop", "ls", "-o", "name"]);
    is_the_list(&run.env("AWS_SHARED_CREDENTIALS_FILE", credentials).output());
}

#[test]
fn byte_order_marks_are_read_and_other_bytes_are_told_with_their_place() {
    let shop = Shop::open();
    is_the_list(&shop.list("bom", "shop"));
    let done = shop.list("latin1", "shop");
    fails(
        &done,
        2,
        &["latin1.conf:2:6: the byte 0xe9 is no UTF-8"],
        &["log in"],
    );
}

#[test]
fn a_reference_to_what_is_not_there_is_told_with_file_and_line() {
    let shop = Shop::open();
    let words = ["`not-there`, which is not there", "~/chain.conf:35"];
    fails(
        &shop.list("chain", "lost-source"),
        2,
        &words,
        &["log in", "sso login"],
    );
    let done = shop.list("chain", "loop-a");
    fails(
        &done,
        2,
        &["has itself as its source", "~/chain.conf:"],
        &["sso login"],
    );
    let words = ["`taem`, which is not there", "did you mean `team`?"];
    fails(&shop.list("sso", "typo"), 2, &words, &["sso login"]);
    let named = shop
        .run("names", &["ls"])
        .env("AWS_PROFILE", "two words")
        .output();
    let words = [
        "there is no AWS profile `two words`",
        "AWS_PROFILE",
        "`Two Words`",
    ];
    fails(&named, 2, &words, &["IMDS", "sso login", "log in:"]);
}

#[test]
fn a_program_that_gives_no_credentials_has_the_last_word() {
    let shop = Shop::open();
    for profile in ["broken", "broken-direct"] {
        let words = [
            "why: log in first: idp login\n",
            "exit status 3",
            "~/process.conf:",
        ];
        fails(
            &shop.list("process", profile),
            4,
            &words,
            &["hint:", "external process"],
        );
    }
    let words = [
        "cannot be started: `/nonexistent/helper`",
        "~/process.conf:32",
    ];
    fails(&shop.list("process", "missing"), 4, &words, &["hint:"]);
    shop.lab.write_program(
        "dir with space/give keys",
        &format!(
            "#!/bin/sh\n[ \"$2\" = 'one two' ] || exit 9\necho '{{\"Version\": 1, \"AccessKeyId\": \"{}\", \"SecretAccessKey\": \"{}\"}}'\n",
            shop.access[1].1, shop.access[2].1
        ),
    );
    is_the_list(&shop.list("process", "shop"));
}

#[test]
fn expired_is_only_what_once_was() {
    let shop = Shop::open();
    let words = [
        "nobody has logged in to the SSO of AWS profile `a`",
        "ops --aws-profile a login",
    ];
    fails(&shop.list("sso", "a"), 4, &words, &["expired"]);
    // A login that was made once: the file has the name that `printf team | sha1sum` gives, as the
    // AWS CLI has it.
    shop.lab.write(
        ".aws/sso/cache/d25187dc137f35c88bc80ec8c3ffbdb17b5eb873.json",
        r#"{"startUrl": "https://example.awsapps.com/start#/", "region": "eu-west-1", "accessToken": "x", "expiresAt": "2020-01-01T00:00:00Z"}"#,
    );
    let words = ["the SSO login of AWS profile `a` has expired"];
    fails(&shop.list("sso", "a"), 4, &words, &["yet"]);
}

#[test]
fn a_name_in_a_hint_is_quoted() {
    let shop = Shop::open();
    shop.lab.write(
        "two.conf",
        "[profile Two Words]\nregion = eu-west-1\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n[sso-session s]\nsso_start_url = https://example.com/start\nsso_region = eu-west-1\n",
    );
    let run = shop
        .lab
        .ops(["-p", "Two Words", "ls"])
        .without("OPS_SANDBOX");
    let done = run
        .env("AWS_CONFIG_FILE", shop.lab.home().join("two.conf"))
        .output();
    fails(&done, 4, &["ops --aws-profile 'Two Words' login"], &[]);
}

#[test]
fn a_region_of_the_environment_is_checked_as_the_flag_is() {
    let shop = Shop::open();
    for (region, words) in [
        (
            "eu-west-1a",
            "is an availability zone; its region is `eu-west-1`",
        ),
        (" eu-west-1", "` eu-west-1` is no region"),
    ] {
        let run = shop.run("services", &["ls"]).env("AWS_REGION", region);
        let done = run.env("AWS_PROFILE", "shop").output();
        fails(
            &done,
            2,
            &["the region of environment AWS_REGION", words],
            &[],
        );
        let done = shop
            .run("crlf", &["-p", "shop", "ls", "--region", region])
            .output();
        fails(&done, 2, &[words], &[]);
    }
}

#[test]
fn a_socks_proxy_for_everything_is_left_alone() {
    let shop = Shop::open();
    let run = shop.run("crlf", &["-p", "shop", "ls", "-o", "name"]);
    is_the_list(&run.env("ALL_PROXY", "socks5h://127.0.0.1:1080").output());
    // With HTTPS the variable is named; the endpoint is one that nobody answers on.
    let closed = ClosedPort::reserve();
    let run = shop.lab.ops(["ls"]).without("OPS_SANDBOX");
    let done = run
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .env("AWS_REGION", "eu-west-1")
        .env(
            "AWS_ENDPOINT_URL",
            format!("https://127.0.0.1:{}", closed.number()),
        )
        .env("all_proxy", "socks5h://127.0.0.1:1080")
        .output();
    fails(
        &done,
        1,
        &["all_proxy names a SOCKS proxy", "no connection"],
        &["of all_proxy"],
    );
}

/// An answer of a proxy to every connection.
fn proxy(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut head);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn a_proxy_that_fails_is_named_with_its_answer() {
    let lab = Lab::new();
    let closed = ClosedPort::reserve();
    let broken = proxy("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    for (variable, port, why) in [
        ("HTTPS_PROXY", closed.number(), "refused"),
        ("https_proxy", broken, "502"),
    ] {
        let done = lab
            .ops(["ls"])
            .env("AWS_ACCESS_KEY_ID", "x")
            .env("AWS_SECRET_ACCESS_KEY", "x")
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_MAX_ATTEMPTS", "1")
            .env(variable, format!("http://me:secret@127.0.0.1:{port}"))
            .output();
        let named = format!("by way of the proxy `http://127.0.0.1:{port}` of {variable}");
        fails(&done, 1, &[&named, why], &["secret"]);
    }
}

/// A proxy that refuses the first, the third, … tunnel to EC2 and leaves every other one waiting.
fn proxy_that_refuses_and_waits() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let (mut tunnels, mut waiting) = (0, Vec::new());
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let len = std::io::Read::read(&mut stream, &mut head).unwrap_or(0);
            let is_ec2 = head[..len].starts_with(b"CONNECT ec2.");
            tunnels += usize::from(is_ec2);
            if is_ec2 && tunnels % 2 == 1 {
                let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
            } else {
                waiting.push(stream);
            }
        }
    });
    port
}

#[test]
fn a_call_whose_time_is_up_tells_why_its_last_try_failed() {
    let port = proxy_that_refuses_and_waits();
    let done = Lab::new()
        .ops(["--timeout", "2s", "ls"])
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .env("AWS_REGION", "eu-west-1")
        .env("HTTPS_PROXY", format!("http://127.0.0.1:{port}"))
        .output();
    let named = format!(
        "at `ec2.eu-west-1.amazonaws.com` by way of the proxy `http://127.0.0.1:{port}` of HTTPS_PROXY"
    );
    let said = [
        "--timeout was reached",
        &named,
        "it answers `HTTP/1.1 502 Bad Gateway`",
        "check that proxy",
    ];
    fails(&done, 124, &said, &["give it longer"]);
}

/// A proxy that takes every connection and never says a word.
#[test]
fn a_proxy_that_is_silent_is_named_as_what_may_be_wrong() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    let lab = Lab::new();
    for args in [&["ls"][..], &["describe", "web-1"], &["whoami"]] {
        let done = lab
            .ops([&["--timeout", "1s"], args].concat())
            .env("AWS_ACCESS_KEY_ID", "x")
            .env("AWS_SECRET_ACCESS_KEY", "x")
            .env("AWS_REGION", "eu-west-1")
            .env("HTTPS_PROXY", format!("http://127.0.0.1:{port}"))
            .output();
        let named = format!("by way of the proxy `http://127.0.0.1:{port}` of HTTPS_PROXY");
        fails(
            &done,
            124,
            &[&named, "check that proxy"],
            &["narrow the list"],
        );
    }
}

#[test]
fn metadata_that_refuse_are_no_other_failure_than_no_credentials() {
    let lab = Lab::new();
    let refusing = proxy("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let done = lab
        .ops(["--region", "eu-west-1", "ls"])
        .without("AWS_EC2_METADATA_DISABLED")
        .env(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            format!("http://127.0.0.1:{refusing}"),
        )
        .env("AWS_MAX_ATTEMPTS", "1")
        .output();
    let said = [
        "no AWS credentials found",
        "the instance metadata give none",
        "ops --region eu-west-1 --sandbox ls",
    ];
    fails(&done, 4, &said, &["could not be had"]);
}

#[test]
fn a_ca_bundle_of_the_file_is_used_and_named() {
    let lab = Lab::new();
    lab.write(
        ".aws/config",
        "[profile corp]\nregion = eu-west-1\nca_bundle = ~/corp.pem\naws_access_key_id = x\naws_secret_access_key = x\n",
    );
    let done = lab.ops(["-p", "corp", "ls"]).output();
    fails(
        &done,
        2,
        &["`ca_bundle` in ~/.aws/config:3", "~/corp.pem"],
        &[],
    );
}

#[test]
fn a_variable_that_is_set_to_nothing_counts_as_one_that_is_not_set() {
    let shop = Shop::open();
    for name in SET_TO_NOTHING {
        let run = shop.run("services", &["ls", "-o", "name"]);
        let run = match name {
            "AWS_PROFILE" | "AWS_DEFAULT_PROFILE" => {
                shop.run("services", &["-p", "shop", "ls", "-o", "name"])
            }
            _ => run.env("AWS_PROFILE", "shop"),
        };
        is_the_list(&run.env(name, "").output());
    }
}

#[test]
fn values_that_only_other_aws_tools_know_stop_nothing() {
    let shop = Shop::open();
    is_the_list(&shop.list("odd-values", "wrong"));
    for (name, value) in [
        ("AWS_RETRY_MODE", "legacy"),
        ("AWS_RETRY_MODE", "sometimes"),
        ("AWS_MAX_ATTEMPTS", "0"),
        ("AWS_MAX_ATTEMPTS", "many"),
        ("AWS_USE_FIPS_ENDPOINT", "maybe"),
        ("AWS_DEFAULTS_MODE", "none"),
    ] {
        let run = shop.run("services", &["-p", "shop", "ls", "-o", "name"]);
        is_the_list(&run.env(name, value).output());
    }
}
