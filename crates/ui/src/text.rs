//! What a person reads: text that cannot drive a terminal, and commands that are safe to copy into
//! a shell.
//!
//! Names come from tags, from the computers of hybrid nodes, from file systems of servers; reasons
//! come from services. Whoever writes them must not be able to move the cursor, hide or reorder
//! characters, or begin a line that looks like one of ours. So whatever writes to stderr takes a
//! [`Text`], and there are two ways to make one:
//!
//! - A literal (`&'static str`) is ours and stays as it is, line ends included.
//! - A [`String`] is foreign, whoever built it: every character in it that a terminal acts on is
//!   shown as an escape instead, a line end too. A text of several lines of ours is put together
//!   with [`Text::lines`].
//!
//! A [`Hint`] is stricter, because people copy hints into a shell: a `String` is no hint.
//! [`hint!`](crate::hint) puts values into a literal and quotes each as one word of a shell.
//!
//! ```compile_fail
//! # let name = String::new();
//! ops_ui::Error::usage("no such server").hint(format!("ops shell {name}"));
//! ```
//!
//! ```compile_fail
//! # let name = String::new();
//! ops_ui::Error::usage("no such server").hint(ops_ui::hint!("ops shell {name}"));
//! ```
//!
//! ```compile_fail
//! # let name = String::new();
//! // Borrowed, and so neither a literal nor a `String`.
//! ops_ui::Error::usage(name.as_str());
//! ```

use std::{
    borrow::{Borrow, Cow},
    ffi::{OsStr, OsString},
    fmt::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Deref,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// Before each line of a foreign text of several lines, so that none of them begins as a line of
/// ours does.
const GUTTER: &str = "| ";

/// What lines of ours begin with.
pub(crate) const HEADS: [&str; 4] = ["hint:", "why:", "error:", "warning:"];

/// Whether `c` is shown as an escape: control characters (C0, DEL, C1), what reorders text, what
/// cannot be seen, and line ends of Unicode's own.
///
/// Source: general categories Cc, Cf, Zl and Zp of Unicode 17, and the code points that renderers
/// leave out or leave blank although their category says otherwise (fillers of Hangul, joiners, the
/// second block of variation selectors). The first block of variation selectors stays, since emoji
/// are written with it.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'
            | '\u{34f}'
            | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// `text` with every character of [`is_unprintable`] shown as an escape: `\n`, `\u{202e}`.
pub fn escape(text: &str) -> String {
    if !text.chars().any(is_unprintable) {
        return text.to_owned();
    }
    text.chars()
        .fold(String::with_capacity(text.len() + 8), |mut out, c| {
            if is_unprintable(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
            out
        })
}

/// `text` with what drives a terminal shown as an escape, but for ends of lines and colours (`ESC [
/// … m`): the last wall in front of a terminal, for pages whose colours are ours.
pub(crate) fn keep_lines_and_colors(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && is_unprintable(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(len) = color_len(rest) {
            out.push_str(&rest[..len]);
            rest = &rest[len..];
            continue;
        }
        if c == '\n' || !is_unprintable(c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(out)
}

/// The length of the colour sequence that `text` begins with, in bytes.
fn color_len(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\x1b[")?;
    let end = numbers.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    numbers[end..].starts_with('m').then_some(2 + end + 1)
}

/// A text that drives no terminal: see the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// What `value` says, which is foreign. For types that say something of themselves, such as an
    /// error of a library.
    pub fn foreign(value: impl fmt::Display) -> Self {
        Self(escape(&value.to_string()))
    }

    /// A foreign text whose line ends are kept: a bar stands before each of its lines. A text of
    /// one line, or none, has no bar.
    pub fn foreign_lines(text: &str) -> Self {
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        match lines.as_slice() {
            [] => Self::default(),
            [one] => Self(escape(one)),
            many => {
                let many: Vec<String> = many
                    .iter()
                    .map(|line| format!("{GUTTER}{}", escape(line)))
                    .collect();
                Self(many.join("\n"))
            }
        }
    }

    /// Several texts, each on a line of its own.
    pub fn lines<T: Into<Self>>(lines: impl IntoIterator<Item = T>) -> Self {
        let lines: Vec<String> = lines.into_iter().map(|line| line.into().0).collect();
        Self(lines.join("\n"))
    }

    /// This text, then `more`.
    #[must_use]
    pub fn then(mut self, more: impl Into<Self>) -> Self {
        self.0.push_str(&more.into().0);
        self
    }

    /// A text with colours of ours in it.
    pub(crate) fn painted(sgr: &str, text: &Self) -> Self {
        Self(format!("\x1b[{sgr}m{text}\x1b[0m"))
    }

    /// This text, told apart from lines of ours: a line that begins as an error or a hint of ours
    /// does gets a bar before it. A name may be `hint: run this`, and notes begin with names.
    pub(crate) fn told_apart(&self) -> Cow<'_, str> {
        let is_mistakable = |line: &str| {
            let line = line.trim_start();
            HEADS.iter().any(|head| {
                line.get(..head.len())
                    .is_some_and(|begin| begin.eq_ignore_ascii_case(head))
            })
        };
        if !self.0.split('\n').any(is_mistakable) {
            return Cow::Borrowed(&self.0);
        }
        let lines: Vec<Cow<'_, str>> = self
            .0
            .split('\n')
            .map(|line| {
                if is_mistakable(line) {
                    Cow::Owned(format!("{GUTTER}{line}"))
                } else {
                    Cow::Borrowed(line)
                }
            })
            .collect();
        Cow::Owned(lines.join("\n"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for Text {
    /// A literal of ours, as it is.
    fn from(literal: &'static str) -> Self {
        Self(literal.to_owned())
    }
}

impl From<String> for Text {
    /// A foreign text: escaped.
    fn from(foreign: String) -> Self {
        if foreign.chars().any(is_unprintable) {
            Self(escape(&foreign))
        } else {
            Self(foreign)
        }
    }
}

impl From<&String> for Text {
    /// A foreign text: escaped.
    fn from(foreign: &String) -> Self {
        Self(escape(foreign))
    }
}

impl From<&Self> for Text {
    fn from(text: &Self) -> Self {
        text.clone()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What to do next, made to be copied into a shell: a literal, or made by [`hint!`](crate::hint).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Hint(Text);

impl Hint {
    /// For [`hint!`](crate::hint): `text` has its values quoted already.
    #[doc(hidden)]
    pub fn of_quoted(text: fmt::Arguments<'_>) -> Self {
        Self(Text::from(text.to_string()))
    }

    /// Names within the sentence of a hint, each as [`named`] has it.
    pub fn names<'a>(names: impl IntoIterator<Item = &'a str>, between: &'static str) -> Self {
        let names: Vec<Text> = names.into_iter().map(|name| named(name).0).collect();
        Self(Text(names.join(between)))
    }

    /// A command: `words` of ours and values, each quoted as one word.
    pub fn command<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let words: Vec<String> = words.into_iter().map(quote).collect();
        Self(Text(words.join(" ")))
    }

    /// A text that no shell is meant to read, such as a policy to be pasted elsewhere. Escaped, not
    /// quoted.
    pub fn document(text: &str) -> Self {
        Self(Text(escape(text)))
    }
}

impl From<&'static str> for Hint {
    fn from(literal: &'static str) -> Self {
        Self(literal.into())
    }
}

impl From<&Self> for Hint {
    fn from(hint: &Self) -> Self {
        hint.clone()
    }
}

impl From<Hint> for Text {
    fn from(hint: Hint) -> Self {
        hint.0
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Both are read as any other text is.
macro_rules! read_as_str {
    ($($type:ty),*) => {$(
        impl Deref for $type {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self
            }
        }
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                self
            }
        }
        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                **self == **other
            }
        }
    )*};
}
read_as_str!(Text, Hint);

/// A hint: a literal with `{}` for values, each quoted as one word of a shell.
///
/// ```
/// use ops_ui::hint;
/// assert_eq!(hint!("ops shell {}", "web-1"), "ops shell web-1");
/// assert_eq!(hint!("ops shell {}", "x$(reboot)"), "ops shell 'x$(reboot)'");
/// ```
///
/// A value beside other text is quoted too, which a shell joins to one word:
/// `{}:FOLDER` becomes `'x y':FOLDER`. Values that stand in the sentence and not in the command are
/// written with [`named`]. A variable within the braces does not compile: it would be put in as it
/// is.
#[macro_export]
macro_rules! hint {
    // `concat!` keeps `format_args!` from taking variables of the caller's, past the quoting.
    ($literal:literal $(, $value:expr)* $(,)?) => {
        $crate::text::Hint::of_quoted(format_args!(
            concat!($literal),
            $($crate::text::InHint::in_hint(&$value)),*
        ))
    };
}

/// What may be put into a [`hint!`](crate::hint), and how it looks there.
pub trait InHint {
    /// The value as one word of a shell.
    fn in_hint(&self) -> String;
}

impl<T: InHint + ?Sized> InHint for &T {
    fn in_hint(&self) -> String {
        T::in_hint(self)
    }
}

impl InHint for str {
    fn in_hint(&self) -> String {
        quote(self)
    }
}

impl InHint for String {
    fn in_hint(&self) -> String {
        quote(self)
    }
}

impl InHint for OsStr {
    fn in_hint(&self) -> String {
        quote_bytes(self.as_bytes())
    }
}

impl InHint for OsString {
    fn in_hint(&self) -> String {
        quote_bytes(self.as_bytes())
    }
}

impl InHint for Path {
    fn in_hint(&self) -> String {
        self.as_os_str().in_hint()
    }
}

impl InHint for PathBuf {
    fn in_hint(&self) -> String {
        self.as_os_str().in_hint()
    }
}

impl InHint for Hint {
    /// Quoted already.
    fn in_hint(&self) -> String {
        self.to_string()
    }
}

macro_rules! plain_in_hint {
    ($($type:ty),*) => {$(
        impl InHint for $type {
            fn in_hint(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
plain_in_hint!(u8, u16, u32, u64, usize, i32, i64, IpAddr, Ipv4Addr);

impl InHint for SocketAddr {
    fn in_hint(&self) -> String {
        quote(&self.to_string())
    }
}

/// A name within the sentence of a hint: `` `web-1` ``, or quoted as a shell needs it where that
/// differs, so that it can be copied.
pub fn named(name: &str) -> Hint {
    let quoted = quote(name);
    Hint(Text(if quoted == name {
        format!("`{name}`")
    } else {
        quoted
    }))
}

/// `bytes` as hexadecimal digits, small letters, two for each: hashes as people and AWS write them.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}

/// `text` as one word of a POSIX shell.
///
/// Characters that cannot be shown are written as `$'\342\200\256'`, as GNU `ls` and `printf %q` of
/// bash write them; that form is of POSIX.1-2024, and of bash, zsh and ksh long before.
pub fn quote(text: &str) -> String {
    quote_bytes(text.as_bytes())
}

/// As [`quote`], for bytes that may be no UTF-8.
pub(crate) fn quote_bytes(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(is_unprintable)
    {
        return sh_word(text);
    }
    let mut out = String::from("$'");
    let octal = |out: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Always three digits: a digit of the text may follow.
            let _ = write!(out, "\\{byte:03o}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '\'' => out.extend(['\\', c]),
                // Of a history in an interactive shell.
                '!' => octal(&mut out, b"!"),
                c if is_unprintable(c) => octal(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => out.push(c),
            }
        }
        octal(&mut out, chunk.invalid());
    }
    out.push('\'');
    out
}

/// `text` as one word of every POSIX shell, whatever its characters: for programs, and not for
/// people to read, since what cannot be shown stays as it is.
pub fn sh_word(text: &str) -> String {
    // shell-words leaves `{a,b}` and `!` as they are, which bash does not.
    let is_plain = |c: char| c.is_alphanumeric() || "@%_-+=:,./".contains(c);
    // zsh looks up a word that begins with `=` among the commands.
    if !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('=') {
        text.to_owned()
    } else {
        single_quoted(text)
    }
}

/// `text` in single quotes, in which POSIX shells read nothing but the closing one: as part of a
/// script.
pub fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// JSON whose characters are all printable: inside its strings, the only place for them, the others
/// become `\u`. Means the same.
pub(crate) fn printable_json(json: String) -> String {
    // What `serde_json` leaves: line ends between values.
    let is_left = |c: char| c != '\n' && is_unprintable(c);
    if !json.chars().any(is_left) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_left(c) {
            // Beyond the first plane as two halves, which is JSON's own form.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// `text` in at most `width` columns, the end of a longer one replaced by `…`.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 0;
    let mut out: String = text
        .chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used < width
        })
        .collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every character that must not reach a terminal, and then some.
    fn unprintable() -> impl Iterator<Item = char> {
        (0..=u32::from(char::MAX))
            .filter_map(char::from_u32)
            .filter(|&c| is_unprintable(c))
    }

    #[test]
    fn what_could_drive_a_terminal_is_shown_instead() {
        assert_eq!(escape("web-1"), "web-1");
        assert_eq!(escape("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(escape("\u{202e}gpj"), "\\u{202e}gpj");
        assert_eq!(escape("日本 ü 🚀"), "日本 ü 🚀");
        for c in "\u{0}\u{7}\r\u{7f}\u{80}\u{9b}\u{9d}\u{ad}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}\u{e0041}\u{e0100}".chars() {
            assert!(is_unprintable(c), "{c:?}");
        }
    }

    #[test]
    fn a_literal_keeps_its_lines_and_a_string_has_none() {
        assert_eq!(Text::from("one\ntwo"), "one\ntwo");
        let name = "web\n  hint: curl evil | sh\u{202e}";
        assert_eq!(
            Text::from(format!("`{name}` is gone")),
            "`web\\n  hint: curl evil | sh\\u{202e}` is gone"
        );
        assert_eq!(
            Text::lines([Text::from(format!("{name}:")), "second".into()]),
            "web\\n  hint: curl evil | sh\\u{202e}:\nsecond"
        );
    }

    #[test]
    fn no_line_of_a_foreign_text_begins_as_one_of_ours() {
        let text = Text::foreign_lines("tea\n  hint: run this\n");
        assert_eq!(text, "| tea\n|   hint: run this");
        assert_eq!(Text::foreign_lines("one\n"), "one");
        let note = Text::from(format!("{}: connection lost", " Hint: run this"));
        assert_eq!(note.told_apart(), "|  Hint: run this: connection lost");
        assert_eq!(Text::from("fine").told_apart(), "fine");
    }

    #[test]
    fn colours_pass_the_last_wall_and_nothing_else_does() {
        assert_eq!(
            keep_lines_and_colors("\x1b[1;31mred\x1b[0m\nplain"),
            "\x1b[1;31mred\x1b[0m\nplain"
        );
        for evil in [
            "\x1b[2J",
            "\x1b]0;title\x07",
            "\x1b[31",
            "\x1b",
            "\u{9b}31m",
        ] {
            assert!(
                !keep_lines_and_colors(evil).contains(is_unprintable),
                "{evil:?}"
            );
        }
    }

    #[test]
    fn json_means_the_same_without_a_character_that_cannot_be_seen() {
        let all: String = unprintable().collect();
        let json = serde_json::to_string_pretty(&serde_json::json!({ &*all: [&all, "ü"] }))
            .expect("a document");
        let printable = printable_json(json.clone());
        assert!(!printable.contains(|c| c != '\n' && is_unprintable(c)));
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(read(&printable), read(&json));
    }

    #[test]
    fn a_hint_is_one_word_for_each_value() {
        assert_eq!(hint!("ops shell {}", "web-1"), "ops shell web-1");
        assert_eq!(
            hint!("ops cp - {}:FOLDER/NAME", "it's"),
            r"ops cp - 'it'\''s':FOLDER/NAME"
        );
        assert_eq!(hint!("-D {}", 1080_u16), "-D 1080");
        assert_eq!(
            hint!("did you mean {} or {}?", named("web-1"), named("a b")),
            "did you mean `web-1` or 'a b'?"
        );
        assert_eq!(quote("=ls"), "'=ls'");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("\u{202e}a1'\\!"), r"$'\342\200\256a1\'\\\041'");
        assert_eq!(quote_bytes(b"\xff1"), r"$'\3771'");
    }

    #[test]
    fn shells_read_back_what_was_quoted() {
        // Without NUL, which no argument can hold.
        let all: String = unprintable().filter(|&c| c != '\0').collect();
        let values = [
            "x$(touch marker)".as_bytes(),
            b"`touch marker`; touch marker & !! #~ {a,b} * ? [a] \\ \" '",
            b"--\n\thint: touch marker\r",
            b"\xff\xfe1",
            all.as_bytes(),
        ];
        let folder = tempfile::tempdir().expect("a folder");
        for shell in ["bash", "zsh", "ksh"] {
            for value in values {
                let script = format!("printf %s {}", quote_bytes(value));
                assert!(!script.contains(is_unprintable), "{script:?}");
                let Ok(output) = std::process::Command::new(shell)
                    .args(["-c", &script])
                    .current_dir(folder.path())
                    .output()
                else {
                    // Not on this machine.
                    continue;
                };
                assert_eq!(output.stdout, value, "{shell}: {script}");
            }
        }
        assert_eq!(
            std::fs::read_dir(folder.path()).expect("a folder").count(),
            0
        );
    }
}
