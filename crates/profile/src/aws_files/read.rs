//! Reads one file of AWS's shared configuration.
//!
//! The reference is the AWS CLI, whose parser is Python's `configparser`: what works there works
//! here. Where that one refuses a whole file for one line (a byte that is no UTF-8, a line that is
//! no setting), this one goes on and remembers the place, since a slip in a section that nobody
//! asked for must stop nothing.

use zeroize::Zeroizing;

/// A section as it stands in a file.
#[derive(Clone)]
pub(super) struct Section {
    /// What stands between the brackets, blanks at its ends left out.
    pub(super) header: String,
    /// The line of the header, counted from 1.
    pub(super) line: usize,
    /// Its settings in the order of the file.
    pub(super) keys: Vec<Key>,
    /// The first byte in it that is no UTF-8.
    pub(super) damage: Option<Damage>,
}

/// One setting. Its value may be secret, so that it has no `Debug`.
#[derive(Clone)]
pub(super) struct Key {
    /// In small letters, as AWS compares them.
    pub(super) name: String,
    /// Empty where the setting has lines of its own below it.
    pub(super) value: Zeroizing<String>,
    /// The settings below it, as `endpoint_url` below `ec2 =`.
    pub(super) nested: Vec<(String, Zeroizing<String>)>,
    /// Its line, counted from 1.
    pub(super) line: usize,
}

/// A byte that is no UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) line: usize,
    /// Counted in bytes, from 1.
    pub(super) column: usize,
    pub(super) byte: u8,
}

/// Reads the sections of a file. What stands before the first one belongs to nothing and is left
/// out.
pub(super) fn sections(bytes: &[u8]) -> Vec<Section> {
    let text = Zeroizing::new(unified(bytes));
    let mut reader = Reader::default();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        reader.take(index + 1, line);
    }
    reader.sections
}

/// The bytes of a file without a byte order mark, in UTF-8 where that mark says UTF-16 (what a
/// redirection of PowerShell writes), and with `\n` alone between its lines.
fn unified(bytes: &[u8]) -> Vec<u8> {
    let utf_16 = |from: fn([u8; 2]) -> u16| {
        let (pairs, _) = bytes[2..].as_chunks();
        let units: Vec<u16> = pairs.iter().map(|pair| from(*pair)).collect();
        String::from_utf16_lossy(&units).into_bytes()
    };
    let mut out = match bytes {
        [0xff, 0xfe, ..] => utf_16(u16::from_le_bytes),
        [0xfe, 0xff, ..] => utf_16(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => rest.to_vec(),
        _ => bytes.to_vec(),
    };
    let mut before = 0;
    out.retain(|byte| {
        let is_kept = *byte != b'\n' || before != b'\r';
        before = *byte;
        is_kept
    });
    for byte in &mut out {
        if *byte == b'\r' {
            *byte = b'\n';
        }
    }
    out
}

#[derive(Default)]
struct Reader {
    sections: Vec<Section>,
    /// How far the last setting is indented, in characters; `None` right behind a header, where no
    /// line can go on with anything.
    indent: Option<usize>,
}

impl Reader {
    fn take(&mut self, number: usize, bytes: &[u8]) {
        let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
        let line = text.trim();
        let damage = std::str::from_utf8(bytes).err().map(|error| Damage {
            line: number,
            column: error.valid_up_to() + 1,
            byte: bytes[error.valid_up_to()],
        });
        // No setting begins with a bracket: `[` begins a section wherever it stands.
        if let Some(header) = line.strip_prefix('[') {
            self.indent = None;
            self.sections.push(Section {
                header: header_of(header).to_owned(),
                line: number,
                keys: Vec::new(),
                damage,
            });
            return;
        }
        let Some(section) = self.sections.last_mut() else {
            return;
        };
        section.damage = section.damage.or(damage);
        if line.is_empty() || line.starts_with(['#', ';']) {
            return;
        }
        let indent = text.chars().take_while(|char| char.is_whitespace()).count();
        let setting = setting_of(line);
        if let Some(above) = section.keys.last_mut()
            && self.indent.is_some_and(|of_above| indent > of_above)
        {
            match setting {
                Some((name, value)) if above.value.is_empty() => {
                    above.nested.push((name, Zeroizing::new(value.to_owned())));
                    return;
                }
                // The CLI makes it a second line of the setting above, which then means nothing.
                Some((ref name, _)) if is_known(name) => {}
                _ if above.value.is_empty() => return,
                _ => {
                    above.value.push(' ');
                    above.value.push_str(line);
                    return;
                }
            }
        } else {
            self.indent = Some(indent);
        }
        if let Some((name, value)) = setting {
            section.keys.push(Key {
                name,
                value: Zeroizing::new(value.to_owned()),
                nested: Vec::new(),
                line: number,
            });
        }
    }
}

/// What a header says, `rest` being all behind its `[`. It ends at the last bracket, as for the CLI
/// (`[profile a[1]]`), unless the first one is followed by a comment.
fn header_of(rest: &str) -> &str {
    let first = rest.split(']').next().unwrap_or_default();
    let behind = &rest[first.len()..];
    let comment = behind
        .strip_prefix(']')
        .is_some_and(|text| text.trim_start().starts_with(['#', ';']));
    let header = if comment {
        first
    } else {
        // One that is not closed ends with its line.
        rest.rsplit_once(']').map_or(rest, |(header, _)| header)
    };
    header.trim()
}

/// Name and value of `name = value` or `name: value`, without a comment behind it.
fn setting_of(line: &str) -> Option<(String, &str)> {
    let at = line.find(['=', ':'])?;
    let name = line[..at].trim().to_ascii_lowercase();
    if name.is_empty() {
        return None;
    }
    let value = line[at + 1..].trim();
    let mut before_is_blank = false;
    let end = value
        .char_indices()
        .find(|(_, char)| {
            let is_comment = before_is_blank && matches!(char, '#' | ';');
            before_is_blank = char.is_whitespace();
            is_comment
        })
        .map_or(value.len(), |(at, _)| at);
    Some((name, value[..end].trim_end()))
}

/// Whether AWS has a setting of this name on a profile's own level: then an indented line is one,
/// and no second line of the one above.
fn is_known(name: &str) -> bool {
    const NAMES: [&str; 17] = [
        "region",
        "output",
        "credential_process",
        "credential_source",
        "role_arn",
        "role_session_name",
        "source_profile",
        "external_id",
        "mfa_serial",
        "duration_seconds",
        "web_identity_token_file",
        "login_session",
        "endpoint_url",
        "services",
        "ca_bundle",
        "max_attempts",
        "retry_mode",
    ];
    const FAMILIES: [&str; 5] = ["aws_", "sso_", "cli_", "ec2_", "use_"];
    NAMES.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A line for each section and setting: header, name, value, then what is nested.
    fn read(text: impl AsRef<[u8]>) -> Vec<String> {
        let mut lines = Vec::new();
        for section in sections(text.as_ref()) {
            lines.push(format!("{}: [{}]", section.line, section.header));
            for key in section.keys {
                lines.push(format!("{}: {}={}", key.line, key.name, *key.value));
                let nested = key.nested.iter();
                lines.extend(nested.map(|(name, value)| format!("   {name}={}", **value)));
            }
        }
        lines
    }

    #[test]
    fn every_form_that_the_aws_cli_reads_is_read() {
        assert_eq!(
            read("[default]\n  region = eu-west-1\n  output=json\n"),
            ["1: [default]", "2: region=eu-west-1", "3: output=json"]
        );
        assert_eq!(
            read("[a] words ; more\nREGION:\teu-west-1\n\tsso_start_url = https://x/start#/\n"),
            [
                "1: [a]",
                "2: region=eu-west-1",
                "3: sso_start_url=https://x/start#/"
            ]
        );
        assert_eq!(
            read("[profile a[1]]\r\nregion = x # note\r\n[b] # see [c]\r\n"),
            ["1: [profile a[1]]", "2: region=x", "3: [b]"]
        );
    }

    #[test]
    fn nested_settings_and_second_lines_belong_to_the_one_above() {
        assert_eq!(
            read(
                "[services x]\nec2 =\n  endpoint_url = http://h\n\n  region = r\nssm:\n\tA: b\n[p]\n  credential_process = helper\n    --flag=x\n  region = q\n"
            ),
            [
                "1: [services x]",
                "2: ec2=",
                "   endpoint_url=http://h",
                "   region=r",
                "6: ssm=",
                "   a=b",
                "8: [p]",
                "9: credential_process=helper --flag=x",
                "11: region=q"
            ]
        );
    }

    #[test]
    fn a_section_that_is_not_closed_ends_the_one_before() {
        assert_eq!(
            read("[a]\nregion = x\n[profile b\nregion = y\nstray\n= z\n"),
            ["1: [a]", "2: region=x", "3: [profile b]", "4: region=y"]
        );
    }

    #[test]
    fn byte_order_marks_are_read() {
        assert_eq!(read(b"\xef\xbb\xbf[a]\nk=v"), ["1: [a]", "2: k=v"]);
        let utf_16: Vec<u8> = "\u{feff}[a]\r\nk=v"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(read(utf_16), ["1: [a]", "2: k=v"]);
    }

    #[test]
    fn a_byte_that_is_no_utf_8_is_remembered_where_it_stands() {
        let sections = sections(b"[a]\n# caf\xe9 \xe8\nk=v\n[b]\n");
        assert_eq!(
            sections[0].damage,
            Some(Damage {
                line: 2,
                column: 6,
                byte: 0xe9
            })
        );
        assert_eq!((sections[0].keys.len(), sections[1].damage), (1, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            sections(&bytes);
        }

        #[test]
        fn what_is_written_is_read(name in "[a-z_]{1,8}", value in "[!-:<-~]{0,20}") {
            prop_assume!(!name.is_empty());
            let text = format!("[s]\n{name} = {value}\n");
            let read = sections(text.as_bytes());
            prop_assert_eq!(&read[0].keys[0].name, &name);
            prop_assert_eq!(&**read[0].keys[0].value, &value);
        }
    }
}
