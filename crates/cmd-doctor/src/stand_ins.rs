//! Stand-ins for what nobody outside should read: the same text gets the same stand-in, so that a
//! report still tells which of its lines belong together.

use std::collections::BTreeMap;

use regex::Regex;

/// Names that are known to be somebody's, longest first, and patterns of what else there is.
pub(crate) struct StandIns {
    patterns: Vec<(Regex, &'static str)>,
    /// Stand-ins by what they stand for.
    given: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, usize>,
    names: Vec<(String, &'static str)>,
}

/// What is replaced wherever it stands, with what its stand-ins begin with. In this order: a token
/// may hold digits that would pass for an account.
const PATTERNS: [(&str, &str); 11] = [
    // Access keys, and whatever is as long and as random: secrets, tokens, signatures.
    (
        r"\b(?:AKIA|ASIA|AIDA|AROA|AIPA|ABIA|ACCA)[A-Z0-9]{12,}\b",
        "key",
    ),
    (r"\b[A-Za-z0-9+/_=-]{40,}", "secret"),
    (r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}", "mail"),
    (r"\b(?:i|mi)-[0-9a-f]{8,17}\b", "instance"),
    (
        r"\b(?:vpc|subnet|sg|rtb|rtbassoc|nat|igw|tgw|vpce|eni|eipalloc|ami|vol)-[0-9a-f]{8,17}\b",
        "resource",
    ),
    (
        r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        "id",
    ),
    (r"\b\d{12}\b", "account"),
    (r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b(?:/\d+)?", "address"),
    (r"\b(?:[0-9a-fA-F]{1,4}:){3,7}[0-9a-fA-F]{0,4}\b", "address"),
    (r"://[^/@\s]+@", "login"),
    (r"(?:/home|/Users|/root)(?:/[^\s:,;`'\x22]*)?", "path"),
];

impl StandIns {
    /// Replaces the `names`, each with what its stand-in begins with, and what follows a pattern.
    pub(crate) fn of(names: impl IntoIterator<Item = (String, &'static str)>) -> Self {
        let mut names: Vec<(String, &'static str)> = names
            .into_iter()
            // A name of a letter or two is a part of every other word.
            .filter(|(name, _)| name.chars().count() > 2)
            .collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        names.dedup();
        Self {
            patterns: PATTERNS
                .iter()
                .filter_map(|(pattern, kind)| Some((Regex::new(pattern).ok()?, *kind)))
                .collect(),
            given: BTreeMap::new(),
            counts: BTreeMap::new(),
            names,
        }
    }

    /// `text` with stand-ins. Versions of four numbers look like addresses and stay.
    pub(crate) fn apply(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, kind) in self.names.clone() {
            if text.contains(&name) {
                let stand_in = self.stand_in(&name, kind);
                text = text.replace(&name, &stand_in);
            }
        }
        for index in 0..self.patterns.len() {
            let (pattern, kind) = self.patterns[index].clone();
            let mut done = String::with_capacity(text.len());
            let mut rest = 0;
            for found in pattern.find_iter(&text) {
                done.push_str(&text[rest..found.start()]);
                rest = found.end();
                match kind == "address" && is_version(found.as_str()) {
                    true => done.push_str(found.as_str()),
                    false => done.push_str(&self.stand_in(found.as_str(), kind)),
                }
            }
            done.push_str(&text[rest..]);
            text = done;
        }
        text
    }

    fn stand_in(&mut self, original: &str, kind: &'static str) -> String {
        if let Some(known) = self.given.get(original) {
            return known.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let stand_in = format!("<{kind} {count}>");
        self.given.insert(original.to_owned(), stand_in.clone());
        stand_in
    }
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
        assert_eq!(told.matches("<account 1>").count(), 2, "{told}");
        assert!(told.contains("(<name 2>, <name 1>)"), "{told}");
        // Once more: what has a stand-in keeps it, and stand-ins are left alone.
        assert_eq!(stand_ins.apply(&told), told);
    }
}
