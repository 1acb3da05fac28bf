//! The text of an ssh configuration: what may stand in it, and how it is escaped.
//!
//! Names come from tags, which anybody with `ec2:CreateTags` can write, so a name is either
//! harmless to ssh or not written at all.

use std::fmt::Write as _;

use ops_ui::text::{is_unprintable, sh_word};

/// Longest ControlPath that every system takes: `sun_path` is 104 bytes on macOS, and ssh appends a
/// dot and 16 characters while it connects.
const CONTROL_PATH_MAX_BYTES: usize = 104 - 17 - 1;
/// Length of what `%C` expands to: a SHA-1 in hexadecimal.
const PERCENT_C_BYTES: usize = 40;

/// How a name can stand in a `Host` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Alias {
    /// As it is, or in quotes; ready for the line.
    Written(String),
    /// Not at all; why, for a note.
    LeftOut(&'static str),
}

/// Whether and how `name` can be a `Host` pattern that matches just itself.
pub(crate) fn host_alias(name: &str) -> Alias {
    if name.is_empty() {
        return Alias::LeftOut("it is empty");
    }
    if name.chars().any(is_unprintable) {
        return Alias::LeftOut("it has control characters");
    }
    if name.contains(['*', '?', '!', ',']) {
        return Alias::LeftOut("ssh would read it as a pattern");
    }
    // ssh refuses most of these in host names since 9.6, and a user's own `Match exec` or `%n`
    // could hand them to a shell.
    if name.contains([
        '\'', '"', '`', '$', '\\', ';', '&', '<', '>', '|', '(', ')', '{', '}', '#', '=', '%', '@',
        '/', ':',
    ]) {
        return Alias::LeftOut("it has characters that mean something to ssh or a shell");
    }
    if name.starts_with('-') {
        return Alias::LeftOut("ssh would read it as an option");
    }
    if name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok() {
        return Alias::LeftOut("it is an address, which leads elsewhere");
    }
    if name.contains(char::is_whitespace) {
        // Only plain spaces inside; anything else is not what a person would type.
        if name.trim() != name || name.chars().any(|c| c.is_whitespace() && c != ' ') {
            return Alias::LeftOut("it has white space that cannot be typed");
        }
        return Alias::Written(format!("\"{name}\""));
    }
    Alias::Written(name.to_owned())
}

/// `text` as one argument of an option that expands `%` tokens, such as `IdentityFile`.
///
/// # Errors
/// A text with quotes, backslashes or control characters cannot stand in every version's
/// configuration.
pub(crate) fn config_argument(text: &str) -> Result<String, &'static str> {
    quoted_text(text).map(|text| text.replace('%', "%%"))
}

/// `text` as one argument, in quotes where it needs them.
fn quoted_text(text: &str) -> Result<String, &'static str> {
    if text.chars().any(char::is_control) {
        return Err("it has control characters");
    }
    if text.contains(['"', '\\']) {
        return Err("it has quotes or backslashes");
    }
    let plain =
        !text.contains(char::is_whitespace) && !text.contains(['\'', '#']) && !text.is_empty();
    Ok(if plain {
        text.to_owned()
    } else {
        format!("\"{text}\"")
    })
}

/// Options whose value is several words.
const OF_SEVERAL_WORDS: &[&str] = &["IPQoS", "RekeyLimit", "SendEnv", "SetEnv"];

/// The value of one of the profile's own `ssh.options`. It means what ssh_config(5) says of it, `%`
/// tokens included.
///
/// # Errors
/// As [`config_argument`].
pub(crate) fn option_value(key: &str, value: &str) -> Result<String, &'static str> {
    if OF_SEVERAL_WORDS.contains(&key) {
        let words: Result<Vec<String>, _> = value.split_whitespace().map(quoted_text).collect();
        return words.map(|words| words.join(" "));
    }
    quoted_text(value)
}

/// A command line for `ProxyCommand`: each word quoted for the shell, and `%` doubled, but for the
/// tokens in `tokens`, which ssh fills in.
///
/// The words of `tokens` are only ever `--`, `%h`, `%p`, `%r`: ids, numbers and a user name of the
/// same configuration.
pub(crate) fn proxy_command(words: &[String], tokens: &[&str]) -> Result<String, &'static str> {
    // ssh puts `exec` in front of the line by itself; a second one would be looked for as a
    // program.
    let mut line = String::new();
    for word in words {
        if word.chars().any(char::is_control) {
            return Err("it has control characters");
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&sh_word(word).replace('%', "%%"));
    }
    for token in tokens {
        let _ = write!(line, " {token}");
    }
    Ok(line)
}

/// A ControlPath in `folder` with `%C` as its name, unless it would be too long.
pub(crate) fn control_path(folder: &str) -> Option<String> {
    if folder.len() + "/cm-".len() + PERCENT_C_BYTES > CONTROL_PATH_MAX_BYTES {
        return None;
    }
    let folder = config_argument(folder).ok()?;
    Some(match folder.strip_suffix('"') {
        Some(open) => format!("{open}/cm-%C\""),
        None => format!("{folder}/cm-%C"),
    })
}

/// One `Host` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Lines of comment above it.
    pub(crate) comment: Vec<String>,
    /// Patterns, written.
    pub(crate) patterns: Vec<String>,
    /// Options in order, values written.
    pub(crate) options: Vec<(String, String)>,
}

/// `text` as part of a comment's line: it comes from options and from a profile's name, which is a
/// file's name.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// A block of entries between marks, with a comment that says what wrote it and how to refresh it.
pub(crate) fn hosts_block(label: &str, refresh: &str, hosts: &[Host]) -> String {
    let (label, refresh) = (one_line(label), one_line(refresh));
    let mut text = format!(
        "# >>> ops {label} >>>\n# Written by `ops ssh-config`; changes here are lost. Refresh: {refresh}\n"
    );
    for host in hosts {
        text.push('\n');
        for line in &host.comment {
            let _ = writeln!(text, "# {}", one_line(line));
        }
        let _ = writeln!(text, "Host {}", host.patterns.join(" "));
        for (key, value) in &host.options {
            let _ = writeln!(text, "    {key} {value}");
        }
    }
    let _ = writeln!(text, "\n# <<< ops {label} <<<");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_names_are_written_and_spaces_are_quoted() {
        assert_eq!(host_alias("web-1"), Alias::Written("web-1".into()));
        assert_eq!(host_alias("web 1"), Alias::Written("\"web 1\"".into()));
        assert_eq!(host_alias("büro-日本"), Alias::Written("büro-日本".into()));
    }

    #[test]
    fn a_name_that_ssh_or_a_shell_could_misread_is_left_out() {
        for name in [
            "",
            "a\nProxyCommand x",
            "web*",
            "!web",
            "a?",
            "-oX",
            "a\"b",
            "$(x)",
            "a;b",
            "a%h",
            "a#b",
            "x,y",
            " a",
            "a\u{202e}b",
            "u@h",
            "a`b`",
            "a\tb",
            "localhost",
            "10.0.0.1",
        ] {
            assert!(matches!(host_alias(name), Alias::LeftOut(_)), "{name:?}");
        }
    }

    #[test]
    fn an_option_of_several_words_stays_so_and_tokens_are_left_alone() {
        for (key, value, written) in [
            ("RekeyLimit", "1G 1h", "1G 1h"),
            ("SendEnv", "LANG  LC_*", "LANG LC_*"),
            ("SetEnv", "A=1#2 B=x", "\"A=1#2\" B=x"),
            ("IdentityAgent", "/run/my agent", "\"/run/my agent\""),
            ("CertificateFile", "~/%r-cert.pub", "~/%r-cert.pub"),
        ] {
            assert_eq!(option_value(key, value).as_deref(), Ok(written));
        }
        assert!(option_value("SetEnv", "A=\"x\"").is_err());
    }

    #[test]
    fn a_proxy_command_survives_percent_signs_spaces_and_quotes() {
        let words = [
            "/opt/my tools/ops".to_owned(),
            "--profile".to_owned(),
            "100%'s".to_owned(),
        ];
        assert_eq!(
            proxy_command(&words, &["%h", "%p"]).unwrap(),
            r"'/opt/my tools/ops' --profile '100%%'\''s' %h %p"
        );
        assert!(proxy_command(&["a\nb".to_owned()], &[]).is_err());
    }

    #[test]
    fn a_control_path_that_would_be_too_long_is_none() {
        let long = "/home/".to_owned() + &"x".repeat(60);
        assert_eq!(control_path(&long), None);
        for (folder, written) in [
            ("/run/user/1000/ops", "/run/user/1000/ops/cm-%C"),
            ("/my run", "\"/my run/cm-%C\""),
        ] {
            assert_eq!(control_path(folder).as_deref(), Some(written));
        }
    }

    #[test]
    fn a_label_cannot_end_the_comment_it_stands_in() {
        let text = hosts_block("a\nHost *", "ops", &[]);
        assert!(
            text.lines()
                .all(|line| line.is_empty() || line.starts_with('#')),
            "{text}"
        );
    }
}
