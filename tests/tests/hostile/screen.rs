//! What a terminal got to see, and what of it must not be there.

/// Code points of the categories Cc, Cf, Zl and Zp, as Python's `unicodedata` 14.0 tells them.
const UNPRINTABLE: [(u32, u32); 23] = [
    (0x0, 0x1f),
    (0x7f, 0x9f),
    (0xad, 0xad),
    (0x600, 0x605),
    (0x61c, 0x61c),
    (0x6dd, 0x6dd),
    (0x70f, 0x70f),
    (0x890, 0x891),
    (0x8e2, 0x8e2),
    (0x180e, 0x180e),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x2064),
    (0x2066, 0x206f),
    (0xfeff, 0xfeff),
    (0xfff9, 0xfffb),
    (0x110bd, 0x110bd),
    (0x110cd, 0x110cd),
    (0x13430, 0x13438),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0001, 0xe0001),
    (0xe0020, 0xe007f),
];

/// Whether a terminal must never get `c` from us, but for line ends and our own sequences.
pub(crate) fn is_unprintable(c: char) -> bool {
    let code = u32::from(c);
    UNPRINTABLE
        .iter()
        .any(|&(first, last)| (first..=last).contains(&code))
}

/// Marks every line that the hostile name would like to have.
pub(crate) const FORGED: &str = "forged-by-a-name";
/// The file that a command within the name would make.
pub(crate) const PWNED: &str = "pwned";

/// A name with everything that terminals and shells act on. It fits into a tag.
pub(crate) fn name() -> String {
    let forged = format!("hint: {FORGED}");
    format!(
        "web$(>{PWNED})`>{PWNED}`;>{PWNED};'\"\\!*\n{forged}\r\n  {forged}\r{forged}\u{2028}{forged}\u{85}{forged}\
         \t\u{8}\u{7}\u{7f}\x1b]0;evil\x07\x1b[6n\x1b[41m\x1bP\u{9b}31m\u{9d}0;evil\u{9c}\
         \u{ad}\u{61c}\u{200b}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}\u{2060}\u{feff}\u{fff9}\u{e0041}"
    )
}

/// Checks what `ops` has written to a terminal.
///
/// # Panics
/// Something in it drives the terminal that is none of our own sequences, or a line is not ours.
#[track_caller]
pub(crate) fn assert_clean(case: &str, written: &[u8]) {
    let text = String::from_utf8(written.to_vec())
        .unwrap_or_else(|error| panic!("{case}: no UTF-8: {error}"));
    let plain = without_own_sequences(&text);
    let raw: Vec<char> = plain
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n') && is_unprintable(*c))
        .collect();
    assert!(raw.is_empty(), "{case}: raw {raw:?} in {text:?}");
    for line in plain.split(['\r', '\n']) {
        let line = line.trim_start();
        assert!(
            !line.starts_with(&format!("hint: {FORGED}")),
            "{case}: forged {line:?} in {text:?}"
        );
    }
}

/// As it looks without colours, movements of the cursor and clearing, which are ours. The colour
/// within the name is none of ours.
fn without_own_sequences(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        plain.push_str(&rest[..at]);
        let sequence = &rest[at..];
        let end = sequence[2..]
            .find(|c: char| c.is_ascii_alphabetic())
            .map_or(sequence.len(), |end| end + 3);
        let (sequence, behind) = sequence.split_at(end);
        let is_own = matches!(
            sequence.as_bytes().last(),
            Some(b'm' | b'K' | b'J' | b'A' | b'B' | b'D' | b'G' | b'H' | b'h' | b'l')
        ) && sequence != "\x1b[41m";
        if !is_own {
            plain.push_str(sequence);
        }
        rest = behind;
    }
    plain.push_str(rest);
    plain
}

/// The hints in what was written, each as somebody would copy it.
pub(crate) fn hints(written: &[u8]) -> Vec<String> {
    let text = without_own_sequences(&String::from_utf8_lossy(written));
    text.split(['\r', '\n'])
        .filter_map(|line| line.split_once("hint: "))
        .filter(|(before, _)| before.trim().is_empty())
        .map(|(_, hint)| hint.to_owned())
        .collect()
}
