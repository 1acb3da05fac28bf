//! Commands on a Windows server: by PowerShell, and by one session alone.
//!
//! The agent there gives the words of a command to `powershell`. What is sent is one text for it
//! (`scripts/windows.ps1`), which runs the program and writes both streams and the status in the
//! form that a server without a place to write has them in. Nothing is kept on the server, so that
//! the run ends with its session; there is no terminal for input, variables and whatever else must
//! not stand in the history of sessions. Written from the documentation, and not tried.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ops_core::{Connection, Document};
use ops_profile::Instance;
use ops_session::documents;
use ops_ui::{Error, ErrorKind, Hint, Result, hint};

use super::{Command, Request};
use crate::{pipe::ScriptHost, script::compact};

const SCRIPT: &str = include_str!("scripts/windows.ps1");

/// Longest command for the agent, in bytes: a command line of Windows has 32,767 characters.
const LONGEST_BYTES: usize = 32_000;

/// Whether the server is known to run Windows.
pub fn is_windows(instance: &Instance) -> bool {
    let platform = instance.platform.as_deref();
    platform.is_some_and(|platform| platform.to_lowercase().contains("windows"))
}

/// The words for `powershell` that run what `request` asks for.
///
/// # Errors
/// What cannot be had on Windows, in plain words.
pub(super) fn command(request: &Request) -> Result<String> {
    let missing = [
        (
            request.user.is_some(),
            "no other user can be become",
            "--user",
        ),
        (
            !request.env.is_empty(),
            "variables would stand in the history of sessions",
            "--env and --env-file",
        ),
        (request.detach, "nothing can be left running", "--detach"),
        // Last: whether there is an input may be the matter of a moment.
        (
            request.stdin,
            "it has no standard input",
            "the input: give -n",
        ),
    ];
    if let Some((_, why, without)) = missing.into_iter().find(|(is_asked, ..)| *is_asked) {
        return Err(refusal(why).hint(hint!("leave out {}", Hint::from(without))));
    }
    let (file, arguments) = match &request.command {
        Command::Argv(words) => {
            let mut words = words.iter().map(|word| text(word));
            let file = words.next().transpose()?.unwrap_or_default();
            let words: Vec<String> = words.collect::<Result<_>>()?;
            (file, command_line(&words))
        }
        Command::Line(line) => ("powershell.exe".to_owned(), encoded(&text(line)?)),
        Command::Script { .. } => {
            return Err(refusal("a script of this computer cannot be sent there")
                .hint("give its lines: ops exec TARGET --shell LINE"));
        }
    };
    if file.is_empty() {
        return Err(
            Error::usage("there is no command to run").hint("name one: ops exec TARGET -- COMMAND")
        );
    }
    let limit = request
        .time_limit
        .map_or(0, |limit| limit.as_millis().max(1));
    let script = format!(
        "$file = \"{}\"\n$arguments = \"{}\"\n$folder = \"{}\"\n$limit = {limit}\n{}",
        STANDARD.encode(file),
        STANDARD.encode(arguments),
        STANDARD.encode(request.cwd.as_deref().unwrap_or_default()),
        compact(SCRIPT)
    );
    let words = encoded(&script);
    if words.len() > LONGEST_BYTES {
        return Err(refusal("the command is too long"));
    }
    Ok(words)
}

fn refusal(why: &str) -> Error {
    Error::usage("a command cannot be run on a Windows server in this way").caused_by(why)
}

/// Arguments of Windows are text.
fn text(bytes: &[u8]) -> Result<String> {
    if bytes.contains(&0) {
        return Err(
            Error::usage("an argument holds a NUL byte").caused_by("no program can be given one")
        );
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| refusal("an argument is no UTF-8"))
}

/// The options of PowerShell that run `script`, which no quoting on the way can change.
fn encoded(script: &str) -> String {
    let units: Vec<u8> = script.encode_utf16().flat_map(u16::to_le_bytes).collect();
    format!(
        "-NoProfile -NonInteractive -OutputFormat Text -ExecutionPolicy Bypass -EncodedCommand {}",
        STANDARD.encode(units)
    )
}

/// `words` as programs of Windows take a command line apart.
fn command_line(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    quoted.join(" ")
}

/// Source: "Parsing C++ command-line arguments" in the Microsoft documentation. A backslash means
/// something only before a double quote.
fn quote(word: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && c != '"';
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    let mut quoted = String::from("\"");
    let mut backslashes = 0;
    for c in word.chars() {
        if c == '\\' {
            backslashes += 1;
            continue;
        }
        let doubled = if c == '"' {
            backslashes * 2 + 1
        } else {
            backslashes
        };
        quoted.extend(std::iter::repeat_n('\\', doubled));
        backslashes = 0;
        quoted.push(c);
    }
    quoted.extend(std::iter::repeat_n('\\', backslashes * 2));
    quoted.push('"');
    quoted
}

/// Opens the session that runs `words`.
///
/// # Errors
/// As [`ops_core::Context::open`].
pub(super) async fn open(host: &ScriptHost, words: &str) -> Result<Connection> {
    // What the document says of output on Windows is not known: both ways are understood.
    match open_as(host, words, true).await {
        Err(error) if matches!(error.kind(), ErrorKind::Usage | ErrorKind::Unexpected) => {
            open_as(host, words, false).await
        }
        opened => opened,
    }
}

async fn open_as(host: &ScriptHost, words: &str, is_separated: bool) -> Result<Connection> {
    let name = host.document.as_deref();
    let mut parameters = BTreeMap::from([("command".to_owned(), vec![words.to_owned()])]);
    if is_separated {
        parameters.insert("separateOutputStream".to_owned(), vec!["true".to_owned()]);
    }
    let document = Document::Custom {
        name: name
            .unwrap_or(documents::NON_INTERACTIVE_COMMAND)
            .to_owned(),
        parameters,
        handshake: true,
    };
    Box::pin(host.cx.open(&host.instance, document, host.options())).await
}

/// The reason, in base64, why the program could not be started.
pub(super) fn unstartable(words: &str) -> Error {
    let why = STANDARD.decode(words).unwrap_or_default();
    Error::target("the command could not be started on the Windows server")
        .caused_by(ops_ui::Text::foreign(String::from_utf8_lossy(&why)))
        .hint("name a program; a line of PowerShell: ops exec TARGET --shell LINE")
}

/// How long a status of Windows is; only 0 to 255 can be handed on.
pub(super) fn narrow_status(told: &str) -> Option<(u8, Option<String>)> {
    let status: i64 = told.parse().ok()?;
    Some(match u8::try_from(status) {
        Ok(code) => (code, None),
        // Never a success by being cut.
        Err(_) => (
            u8::MAX,
            Some(format!("its exit status is {status}, told as 255")),
        ),
    })
}

/// For tests of its text.
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn decoded(words: &str) -> String {
        let (_, text) = words.rsplit_once(' ').unwrap();
        let bytes = STANDARD.decode(text).unwrap();
        let units: Vec<u16> = bytes
            .chunks(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        String::from_utf16(&units).unwrap()
    }

    fn argv(words: &[&str]) -> Request {
        let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        Request::new(Command::Argv(words))
    }

    /// A word of the script's head, as PowerShell decodes it.
    fn value(script: &str, name: &str) -> String {
        let head = format!("${name} = \"");
        let line = script.lines().find(|line| line.starts_with(&head)).unwrap();
        let word = line[head.len()..].trim_end_matches('"');
        String::from_utf8(STANDARD.decode(word).unwrap()).unwrap()
    }

    #[test]
    fn a_command_line_is_quoted_as_windows_takes_it_apart() {
        for (word, quoted) in [
            ("plain", "plain"),
            ("", r#""""#),
            ("a b", r#""a b""#),
            (r"C:\dir\", r"C:\dir\"),
            (r"C:\a dir\", r#""C:\a dir\\""#),
            (r#"say "hi""#, r#""say \"hi\"""#),
            (r#"\""#, r#""\\\"""#),
            ("$x `y` %z%", r#""$x `y` %z%""#),
        ] {
            assert_eq!(quote(word), quoted, "{word}");
        }
    }

    #[test]
    fn what_travels_is_words_that_no_splitting_changes_and_gives_the_script_back() {
        let mut request = argv(&["whoami.exe", "/all", "a 'b' \"c\" $d"]);
        request.cwd = Some("C:\\Program Files".to_owned());
        request.time_limit = Some(Duration::from_millis(1500));
        let words = command(&request).unwrap();
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b" +/=-".contains(&b);
        assert!(words.bytes().all(is_plain), "{words}");
        let script = decoded(&words);
        assert_eq!(value(&script, "file"), "whoami.exe");
        assert_eq!(value(&script, "arguments"), r#"/all "a 'b' \"c\" $d""#);
        assert_eq!(value(&script, "folder"), "C:\\Program Files");
        assert!(script.contains("\n$limit = 1500\n"));
        assert!(script.ends_with("Write-Line $output \"!over $status\"\n"));
        // No comment of it is sent.
        assert!(!script.contains("\n#"));
        let line = Request::new(Command::Line("Get-Service | fl".into()));
        let script = decoded(&command(&line).unwrap());
        assert_eq!(value(&script, "file"), "powershell.exe");
        assert_eq!(decoded(&value(&script, "arguments")), "Get-Service | fl");
    }

    #[test]
    fn what_cannot_be_had_is_refused_in_plain_words() {
        let mut requests = vec![
            argv(&["x", "a\0b"]),
            argv(&[]),
            argv(&[&"x".repeat(40_000)]),
        ];
        requests.push(Request::new(Command::Argv(vec![
            b"x".to_vec(),
            b"\xff".to_vec(),
        ])));
        requests.push(Request::new(Command::Script {
            name: "x".to_owned(),
            bytes: Vec::new(),
            args: Vec::new(),
        }));
        for change in [
            |request: &mut Request| request.stdin = true,
            |request: &mut Request| request.detach = true,
            |request: &mut Request| request.user = Some("me".to_owned()),
            |request: &mut Request| request.env = vec![("A".to_owned(), Vec::new())],
        ] {
            let mut request = argv(&["x"]);
            change(&mut request);
            requests.push(request);
        }
        for request in requests {
            let error = command(&request).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{request:?}");
        }
    }

    #[test]
    fn a_status_that_is_too_large_is_never_a_success() {
        assert_eq!(narrow_status("0"), Some((0, None)));
        assert_eq!(narrow_status("255").map(|(code, _)| code), Some(255));
        for large in ["256", "-1073741819", "65536"] {
            let (code, note) = narrow_status(large).unwrap();
            assert_eq!(code, 255);
            assert!(note.unwrap().contains(large));
        }
        assert_eq!(narrow_status("x"), None);
    }
}
