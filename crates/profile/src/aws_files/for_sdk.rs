//! The same configuration in the form that the SDK for Rust reads: that one stops at a setting that
//! is indented, and leaves out, without a word, profiles whose names have a blank or an umlaut.

use std::{borrow::Cow, fmt::Write as _};

use zeroize::Zeroizing;

use super::{AwsFiles, Group};

/// Begins the names that are written in another way for the SDK.
const MARK: &str = "ops%";
/// Settings whose values are names of sections.
const REFERENCES: [&str; 3] = ["source_profile", "sso_session", "services"];

impl AwsFiles {
    /// All of it as one configuration file. Names are as [`sdk_name`] writes them.
    pub fn for_sdk(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for (kind, groups) in [
            ("profile", &self.profiles),
            ("sso-session", &self.sso_sessions),
            ("services", &self.services),
        ] {
            for (name, group) in groups {
                let _ = writeln!(text, "[{kind} {}]", sdk_name(name));
                write_settings(&mut text, group);
            }
        }
        text
    }
}

fn write_settings(text: &mut String, group: &Group) {
    for (name, value) in &group.settings {
        let key = &value.key;
        if !is_identifier(name) {
            continue;
        }
        if !key.value.is_empty() {
            let value = if REFERENCES.contains(&name.as_str()) {
                sdk_name(&key.value)
            } else {
                Cow::Borrowed(key.value.as_str())
            };
            let _ = writeln!(text, "{name} = {value}");
        } else if !key.nested.is_empty() {
            let _ = writeln!(text, "{name} =");
            for (name, value) in &key.nested {
                let _ = writeln!(text, "  {name} = {}", **value);
            }
        }
    }
}

/// A name of a profile or another section as the SDK is told it: unchanged where the SDK takes it,
/// else with what it does not take as `%` and two digits.
pub fn sdk_name(name: &str) -> Cow<'_, str> {
    if is_identifier(name) && !name.is_empty() && !name.starts_with(MARK) {
        return Cow::Borrowed(name);
    }
    let rest = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    Cow::Owned(format!("{MARK}{rest}"))
}

/// Whether the SDK takes it for a name; its rule is `validate_identifier` of aws-runtime's
/// `env_config/normalize.rs`.
fn is_identifier(name: &str) -> bool {
    name.chars()
        .all(|char| char.is_ascii_alphanumeric() || "_-/.%@:+".contains(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_so_that_the_sdk_reads_it() {
        let files = AwsFiles::of_config(
            "[profile a b]\n  Region: x\n  empty =\n  odd key = 1\n[profile c]\nsource_profile = a b\n[services s]\nec2 =\n endpoint_url: http://h\n",
        );
        assert_eq!(
            *files.for_sdk(),
            "[profile ops%a%20b]\nregion = x\n[profile c]\nsource_profile = ops%a%20b\n[services s]\nec2 =\n  endpoint_url = http://h\n"
        );
    }

    #[test]
    fn names_that_the_sdk_takes_are_left_alone_and_no_two_become_one() {
        assert_eq!(sdk_name("jo@x/Admin:1.b+c%20"), "jo@x/Admin:1.b+c%20");
        assert_eq!(sdk_name("größe"), "ops%gr%C3%B6%C3%9Fe");
        assert_eq!(sdk_name("ops%a%20b"), "ops%ops%25a%2520b");
        assert_eq!(sdk_name(""), "ops%");
    }
}
