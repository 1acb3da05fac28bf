//! Stand-ins for what nobody outside should read: the same text gets the same stand-in, so that a
//! report still tells which of its lines belong together.

use std::collections::BTreeMap;

use regex::Regex;

/// Names that are known to be somebody's, longest first, and patterns of what else there is.
pub(crate) struct StandIns {
    patterns: Vec<(Regex, &'static str, Keep)>,
    /// Stand-ins by what they stand for.
    given: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, usize>,
    names: Vec<(String, &'static str)>,
}

/// Whether something that a pattern finds is nobody's, and may stay.
type Keep = fn(&str) -> bool;

const NEVER: Keep = |_| false;

/// What is replaced wherever it stands, with what its stand-ins begin with, and what of it stays.
/// Where a pattern has a group, the group is replaced alone. In this order: a token may hold digits
/// that would pass for an account, an ARN holds both, and a value in backticks may be any of them.
///
/// A report for strangers rather loses a word of ours than keeps a name of somebody's: hosts, paths
/// and whatever stands in backticks go unless they are known to be AWS's or ours.
const PATTERNS: [(&str, &str, Keep); 19] = [
    // Access keys, and whatever is as long and as random: secrets, tokens, signatures.
    (
        r"\b(?:AKIA|ASIA|AIDA|AROA|AIPA|ABIA|ACCA)[A-Z0-9]{12,}\b",
        "key",
        NEVER,
    ),
    (r"arn:aws[a-z-]*:[^\s`'\x22,;()<>]+", "arn", is_public_arn),
    // Escaped for a URL too, where a part between two signs of per cent is shorter.
    (r"\b[A-Za-z0-9+/_=%-]{40,}", "secret", NEVER),
    // What is told to be a secret is one, however short.
    (
        r"(?i)\b[a-z0-9_-]*(?:secret|token|password|passwd|credential|signature)[a-z0-9_-]*['\x22]?\s?[=:]\s?['\x22]?([^\s'\x22,;&<>`]{3,})",
        "secret",
        is_told_of_a_secret,
    ),
    (r"(?i)\bbearer\s+([^\s'\x22<>`]+)", "secret", NEVER),
    // Ids of sessions begin with their owner.
    (
        r"(?:^|[\s`'\x22(=,:/])([A-Za-z0-9+=,.@_-]+-[0-9a-z]{17,26})\b",
        "session",
        is_no_session,
    ),
    (
        r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
        "mail",
        NEVER,
    ),
    (r"://([^/\s`'\x22<>]+)", "host", is_host_of_aws),
    // The parts of a distinguished name: who has issued a certificate.
    (
        r"\b(?:CN|OU|O|L|ST|C|DC|E|emailAddress|serialNumber) ?= ?([^,;+`\x22\\<>]+)",
        "issuer",
        NEVER,
    ),
    (r"`([^`\n]+)`", "value", is_public_value),
    (r"(?:i|mi)-[0-9a-f]{8,17}", "instance", NEVER),
    (
        r"\b(?:vpc|subnet|sg|rtb|rtbassoc|nat|igw|tgw|vpce|eni|eipalloc|ami|vol|vpce-svc)-[0-9a-f]{8,17}\b",
        "resource",
        NEVER,
    ),
    (
        r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        "id",
        NEVER,
    ),
    // Also within a word, and as the console writes it.
    (r"\d{12,}|\b\d{4}-\d{4}-\d{4}\b", "account", NEVER),
    (
        r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b(?:/\d+)?",
        "address",
        is_version,
    ),
    (
        r"(?:\b(?:[0-9a-fA-F]{1,4}:){3,7}[0-9a-fA-F]{0,4}\b|\b(?:[0-9a-fA-F]{1,4}:)+:(?:[0-9a-fA-F]{1,4}:?)*)",
        "address",
        NEVER,
    ),
    (
        r"\b(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?\.)+[A-Za-z][A-Za-z0-9-]*\b",
        "host",
        is_public_host,
    ),
    (
        r"(?m)(?:^|[\s`'\x22(=,:])((?:~[A-Za-z0-9._-]*)?/[^\s`'\x22,;:()<>|\\]+)",
        "path",
        is_public_path,
    ),
    // The name of a host that is an address.
    (
        r"\b(?:ip|ec2)-\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3}\b",
        "address",
        NEVER,
    ),
];

/// Kinds of resources in front of an id of EC2.
const RESOURCES: &str = "vpc|subnet|sg|rtb|rtbassoc|nat|igw|tgw|vpce|eni|eipalloc|ami|vol|vpce-svc";

/// The service and the documents of AWS are nobody's; everything else names an account, or
/// something in one.
fn is_public_arn(arn: &str) -> bool {
    arn.contains(":iam::aws:policy/")
        || arn.contains("::document/AWS-")
        || arn.ends_with(":document/SSM-SessionManagerRunShell") && arn.contains(":*:")
        || arn.ends_with("/*") && arn.contains(":*:*:")
}

/// What stands behind such a word in sentences and lists of ours is a word or a number.
fn is_told_of_a_secret(value: &str) -> bool {
    ["null", "true", "false", "none"].contains(&value)
}

/// Ids of AWS's own kinds have stand-ins that tell the kind, and come later. What has no digit at
/// its end is a word of ours.
fn is_no_session(id: &str) -> bool {
    let (kind, tail) = id.rsplit_once('-').unwrap_or((id, ""));
    ["i", "mi"].contains(&kind)
        || RESOURCES.split('|').any(|known| known == kind)
        || !tail.bytes().any(|byte| byte.is_ascii_digit())
}

fn is_host_of_aws(host: &str) -> bool {
    const SERVICES: [&str; 9] = [
        "ec2",
        "ssm",
        "ssmmessages",
        "sts",
        "iam",
        "kms",
        "logs",
        "oidc",
        "portal",
    ];
    let suffixes = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"];
    let Some(name) = suffixes.iter().find_map(|end| host.strip_suffix(end)) else {
        return false;
    };
    // `ssm.eu-west-1`, `ssm-fips.us-east-1`, `iam`: nothing of an account is in front.
    let mut parts = name.split('.');
    let first = parts.next().unwrap_or_default();
    let is_service = SERVICES.contains(&first.strip_suffix("-fips").unwrap_or(first));
    is_service && parts.all(|part| part == "sso" || is_region(part))
}

/// A host of AWS, or what only looks like one: a key of a profile, a file that our words name.
fn is_public_host(text: &str) -> bool {
    const SECTIONS: [&str; 10] = [
        "aws", "copy", "exec", "guard", "logs", "names", "select", "session", "shell", "ssh",
    ];
    let (first, rest) = text.split_once('.').unwrap_or((text, ""));
    let is_key = |part: &str| {
        let is_word = part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        is_word && part.len() < 20
    };
    is_host_of_aws(text)
        || SECTIONS.contains(&first) && !rest.contains('.') && is_key(rest)
        || ["FILE.pem", "amazon-ssm-agent.service"].contains(&text)
}

fn is_region(text: &str) -> bool {
    let mut parts = text.rsplit('-');
    let number = parts.next().unwrap_or_default();
    let areas: Vec<&str> = parts.collect();
    number.len() == 1
        && number.bytes().all(|b| b.is_ascii_digit())
        && (2..=3).contains(&areas.len())
        && areas
            .iter()
            .all(|area| area.len() < 11 && area.bytes().all(|b| b.is_ascii_lowercase()))
}

/// What stands in backticks and is a word of AWS's or of ours, or several such.
fn is_public_value(text: &str) -> bool {
    let is_public = |word: &str| {
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'*')
        };
        let is_action = word.split_once(':').is_some_and(|(service, operation)| {
            service
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && operation.starts_with(|c: char| c.is_ascii_uppercase() || c == '*')
                && is_name(operation)
        });
        let of_aws = ["AWS-", "Amazon", "SSM-SessionManager"]
            .iter()
            .any(|start| word.starts_with(start))
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let is_variable = ["AWS_", "OPS_", "HTTP_", "HTTPS_", "NO_", "ALL_", "XDG_"]
            .iter()
            .any(|start| word.to_ascii_uppercase().starts_with(start))
            && word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
        let is_option =
            word.starts_with("--") && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        let is_stand_in = word.starts_with('<') || word.ends_with('>');
        is_action
            || of_aws
            || is_variable
            || is_option
            || is_stand_in
            || word == "*"
            || is_region(word)
            || is_public_host(word)
    };
    text.split_whitespace().all(is_public)
}

fn is_public_path(path: &str) -> bool {
    ["/ssm/managed-instance/", "/dev/null", "/etc/ssl/"]
        .iter()
        .any(|start| path.starts_with(start))
}

impl StandIns {
    /// Replaces the `names`, each with what its stand-in begins with, and what follows a pattern.
    pub(crate) fn of(names: impl IntoIterator<Item = (String, &'static str)>) -> Self {
        let mut all: Vec<(String, &'static str)> = Vec::new();
        for (name, kind) in names {
            // As it is, as DNS has it, as JSON writes it, and as a terminal is shown it.
            let json = serde_json::to_string(&name).unwrap_or_default();
            let forms = [
                name.to_lowercase(),
                json.trim_matches('"').to_owned(),
                ops_ui::text::escape(&name),
                name,
            ];
            all.extend(forms.map(|form| (form, kind)));
        }
        // A single letter, and a number of two digits, are a part of everything.
        all.retain(|(name, _)| {
            let is_number = name.bytes().all(|b| b.is_ascii_digit());
            name.chars().count() > if is_number { 3 } else { 1 }
        });
        all.sort_by_key(|(name, _)| (std::cmp::Reverse(name.len()), name.clone()));
        all.dedup_by(|one, other| one.0 == other.0);
        Self {
            patterns: PATTERNS
                .iter()
                .filter_map(|(pattern, kind, keep)| Some((Regex::new(pattern).ok()?, *kind, *keep)))
                .collect(),
            given: BTreeMap::new(),
            counts: BTreeMap::new(),
            names: all,
        }
    }

    /// `text` with stand-ins. Versions of four numbers look like addresses and stay.
    pub(crate) fn apply(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, kind) in self.names.clone() {
            if text.contains(&name) {
                let stand_in = self.stand_in(&name, kind);
                text = if name.chars().count() > 3 {
                    text.replace(&name, &stand_in)
                } else {
                    replace_words(&text, &name, &stand_in)
                };
            }
        }
        for index in 0..self.patterns.len() {
            let (pattern, kind, keep) = self.patterns[index].clone();
            let mut done = String::with_capacity(text.len());
            let mut rest = 0;
            for found in pattern.captures_iter(&text) {
                let Some(found) = found.get(1).or_else(|| found.get(0)) else {
                    continue;
                };
                done.push_str(&text[rest..found.start()]);
                rest = found.end();
                if keep(found.as_str()) {
                    done.push_str(found.as_str());
                } else {
                    done.push_str(&self.stand_in(found.as_str(), kind));
                }
            }
            done.push_str(&text[rest..]);
            text = done;
        }
        text
    }

    fn stand_in(&mut self, original: &str, kind: &'static str) -> String {
        // Whatever form it has, it is the same thing.
        let key = original.to_lowercase();
        if let Some(known) = self.given.get(&key) {
            return known.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let stand_in = format!("<{kind} {count}>");
        self.given.insert(key, stand_in.clone());
        stand_in
    }
}

/// Replaces `name` where it is no part of a longer word: short names are parts of many.
fn replace_words(text: &str, name: &str, stand_in: &str) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let (before, behind) = (&rest[..at], &rest[at + name.len()..]);
        let is_word = !is_part(before.chars().next_back()) && !is_part(behind.chars().next());
        done.push_str(before);
        done.push_str(if is_word { stand_in } else { name });
        rest = behind;
    }
    done.push_str(rest);
    done
}

/// Whether four dotted numbers are a version: an agent's third one is beyond what an address has,
/// or its last one is 0.
fn is_version(text: &str) -> bool {
    let parts: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
    parts.is_some_and(|parts| {
        parts.len() == 4 && (parts.iter().any(|part| *part > 255) || parts[0] < 5 && parts[3] == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_account_is_left_and_the_same_is_the_same() {
        let names = [
            ("web-1".to_owned(), "name"),
            ("web-1.prod".to_owned(), "name"),
        ];
        let mut stand_ins = StandIns::of(names);
        let secrets = [
            "123456789012",
            "i-0a1b2c3d4e5f60718",
            "web-1",
            "10.0.3.17",
            "alice@example.org",
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEYwJalr",
            "subnet-0f1e2d3c4b5a69788",
            "/home/alice/.aws",
            "proxyuser:hunter2",
            "2001:db8:1:2:3:4:5:6",
        ];
        let text = "arn:aws:iam::123456789012:user/x i-0a1b2c3d4e5f60718 (web-1, web-1.prod) 10.0.3.17/16 alice@example.org AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEYwJalr subnet-0f1e2d3c4b5a69788 /home/alice/.aws http://proxyuser:hunter2@proxy 2001:db8:1:2:3:4:5:6 agent 3.3.3572.0 and 2.3.68.0, 123456789012 again";
        let told = stand_ins.apply(text);
        for secret in secrets {
            assert!(!told.contains(secret), "{secret}: {told}");
        }
        assert!(told.contains("agent 3.3.3572.0 and 2.3.68.0"), "{told}");
        assert_eq!(told.matches("<account 1>").count(), 1, "{told}");
        assert!(told.contains("(<name 2>, <name 1>)"), "{told}");
        // Once more: what has a stand-in keeps it, and stand-ins are left alone.
        assert_eq!(stand_ins.apply(&told), told);
    }
    #[test]
    fn what_stands_in_odd_places_goes_too() {
        for (private, marks) in [
            // Single sign-on names roles and profiles after the account.
            ("role Admin_123456789012 of sso", "123456789012"),
            ("account 1234-5678-9012", "5678"),
            // As a part of a URL, escaped.
            (
                "?arn=arn%3Aaws%3Aiam%3A%3A123456789012%3Auser",
                "123456789012",
            ),
            (
                "token=FwoGZXIvYXdz%2FEJr3%2BaBzQ1x%2FKq0lmno%2Bpqr%3D%3D",
                "EJr3",
            ),
            // Names of hosts that are addresses.
            ("host ip-10-0-3-17 said", "10-0-3"),
            ("on ec2-203-0-113-7 too", "203-0"),
            ("tag_i-0a1b2c3d4e5f60718_x", "0a1b2c3d"),
            // The id of a session begins with its owner.
            ("session zoe-0a1b2c3d4e5f60718 ended", "zoe"),
            ("session zoe.w@corp-0a1b2c3d4e5f60718 ended", "zoe"),
            ("zoe-asf2z7af7b3sbvazacg2br7gbc: over", "zoe"),
            ("mac 0a:1b:2c:3d:4e:5f", "0a:1b"),
            ("::ffff:10.0.3.17 and fe80::1%eth0", "fe80::1"),
            ("[2001:db8::7]:443", "2001:db8"),
            ("file:///home/zoe/.aws/config", "zoe"),
            ("AWS_SECRET_ACCESS_KEY=abcdEFGH/ijkl+MNOP", "MNOP"),
            ("x-amz-security-token: abcdEFGHijkl", "EFGH"),
            ("Bearer abc.DEF.ghi", "DEF"),
            ("password: hunter2", "hunter2"),
        ] {
            let told = StandIns::of([]).apply(private);
            assert!(!told.contains(marks), "{private}: {told}");
        }
    }
    #[test]
    fn what_is_nobodys_stays_and_what_may_be_somebodys_goes() {
        for public in [
            "`ssm:StartSession` on `*` in `us-gov-west-1`",
            "ssm.eu-west-1.amazonaws.com and iam.amazonaws.com",
            "`HTTPS_PROXY`, `--no-session`, `exec.document`",
            "AmazonSSMManagedInstanceCore, `AWS-UpdateSSMAgent`",
            "arn:aws:ssm:*::document/AWS-StartSSHSession",
            "agent 3.3.3572.0",
            "--setting-id /ssm/managed-instance/activation-tier",
        ] {
            assert_eq!(StandIns::of([]).apply(public), public);
        }
        for (private, marks) in [
            ("the bucket `acme-logs` and `/acme/sessions`", "acme"),
            ("by way of http://proxy-acme:3128", "acme"),
            ("https://acme.awsapps.com/start", "acme"),
            ("inspected by `CN=Acme Root, O=Acme`", "Acme"),
            ("issuer CN=Acme Root,O=Acme", "Acme"),
            ("acme.s3.eu-west-1.amazonaws.com", "acme"),
            ("ip-10-0-3-17.acme.internal", "acme"),
            ("arn:aws:kms:eu-west-1:123456789012:alias/acme", "acme"),
            ("cannot read /srv/acme/ops.yaml: denied", "acme"),
            ("~acme/.aws/config", "acme"),
            ("fe80::acme and 2001:db8::1", "2001:db8"),
        ] {
            let told = StandIns::of([]).apply(private);
            assert!(!told.contains(marks), "{private}: {told}");
        }
        let names = [("db".to_owned(), "name"), ("a\"b\u{e9}".to_owned(), "name")];
        let told = StandIns::of(names).apply("db, dbs, DB-1: \"a\\\"b\u{e9}\"");
        assert_eq!(told, "<name 2>, dbs, DB-1: \"<name 1>\"");
    }
}
