//! Which names the user's files of known hosts speak of, whatever keys stand beside them.

use std::path::PathBuf;

use aws_lc_rs::hmac;
use base64::Engine as _;

/// The host patterns of some files of known hosts.
#[derive(Clone, Debug, Default)]
pub struct KnownNames(Vec<HostField>);

/// The host field of a line. Source: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
#[derive(Clone, Debug)]
enum HostField {
    /// Patterns, in lower case, without brackets and ports.
    Plain(Vec<String>),
    /// `|1|SALT|HASH`: HMAC-SHA1 of one name.
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl KnownNames {
    /// Reads `files`; one that is not there or cannot be read says nothing.
    pub fn read(files: &[PathBuf]) -> Self {
        let texts = files.iter().filter_map(|file| std::fs::read(file).ok());
        Self(
            texts
                .flat_map(|text| {
                    let text = String::from_utf8_lossy(&text);
                    text.lines()
                        .filter_map(HostField::of_line)
                        .collect::<Vec<_>>()
                })
                .collect(),
        )
    }

    /// Whether a line speaks of `name`.
    pub fn contains(&self, name: &str) -> bool {
        // ssh looks names up in lower case.
        let name = name.to_lowercase();
        self.0.iter().any(|field| field.speaks_of(&name))
    }
}

impl HostField {
    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let mut field = words.next()?;
        if field.starts_with('#') {
            return None;
        }
        if field.starts_with('@') {
            // `@cert-authority` or `@revoked`.
            field = words.next()?;
        }
        if let Some(hashed) = field.strip_prefix("|1|") {
            let (salt, hash) = hashed.split_once('|')?;
            let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
            return Some(Self::Hashed {
                salt: decode(salt)?,
                hash: decode(hash)?,
            });
        }
        let patterns = field.split(',').map(|pattern| {
            let pattern = pattern.to_lowercase();
            let inner = pattern
                .strip_prefix('[')
                .and_then(|rest| rest.rsplit_once("]:"));
            match inner {
                Some((host, _port)) => host.to_owned(),
                None => pattern,
            }
        });
        // A line for every host, such as that of a certificate authority, speaks of none.
        let patterns = patterns.filter(|pattern| pattern.contains(|c| c != '*'));
        Some(Self::Plain(patterns.collect()))
    }

    fn speaks_of(&self, name: &str) -> bool {
        match self {
            Self::Plain(patterns) => {
                let fits = |pattern: &str| glob(pattern.as_bytes(), name.as_bytes());
                !patterns
                    .iter()
                    .filter_map(|pattern| pattern.strip_prefix('!'))
                    .any(fits)
                    && patterns
                        .iter()
                        .filter(|pattern| !pattern.starts_with('!'))
                        .any(|pattern| fits(pattern))
            }
            Self::Hashed { salt, hash } => {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                hmac::verify(&key, name.as_bytes(), hash).is_ok()
            }
        }
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any bytes and `?` for one.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // On a mismatch only the last `*` has to take one byte more, so that the time is at most the
    // product of both lengths.
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, from));
                at += 1;
            }
            Some(b'?') => {
                at += 1;
                from += 1;
            }
            Some(byte) if *byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    at = after;
                    from = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl0";

    #[test]
    fn names_are_found_plain_hashed_by_pattern_and_behind_a_port() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        // Hashed by `ssh-keygen -H`: github.com.
        let hashed = "|1|gp4MMIY2b9VFYgPyRUTal5ZJ7/0=|eEXy9e8JdQsTcdeieAMbRWUQRf0=";
        std::fs::write(
            &file,
            format!(
                "# {KEY}\n\n{hashed} {KEY}\nplain.example,10.0.0.1\t{KEY}\nFileServer {KEY}\n[port.example]:2222 {KEY}\n@cert-authority *.corp.example,!odd.corp.example {KEY}\n@cert-authority * {KEY}\nold ssh-dss no-key\n"
            ),
        )
        .unwrap();
        let known = KnownNames::read(&[file, folder.path().join("none")]);
        for name in [
            "github.com",
            "plain.example",
            "fileserver",
            "FILESERVER",
            "port.example",
            "db.corp.example",
            "old",
        ] {
            assert!(known.contains(name), "{name}");
        }
        for name in ["web-1", "odd.corp.example", "example", "xplain.example", ""] {
            assert!(!known.contains(name), "{name}");
        }
    }

    #[test]
    fn a_pattern_of_stars_takes_no_time() {
        let pattern = "*a".repeat(200);
        assert!(!glob(pattern.as_bytes(), "a".repeat(199).as_bytes()));
        assert!(glob(pattern.as_bytes(), "a".repeat(200).as_bytes()));
    }
}
