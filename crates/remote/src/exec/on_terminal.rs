//! A command on a terminal of the server: `ops exec -t`.
//!
//! A session with a terminal has no exit status, and its command line stands in the history of
//! sessions. So the document is given a short script alone. The command itself, with its variables
//! and folder, is typed into the terminal while that is raw and echoes nothing, and the script
//! tells the status between marks that no program can know beforehand.

use bytes::Bytes;
use ops_core::{Context, Document, OpenOptions, connect::Ending};
use ops_profile::Instance;
use ops_session::driver::{Event, Session};
use ops_ui::{Error, ErrorKind, Exit, Result, Text, hint};

use super::{Command, Request, folder::random_hex, text};
use crate::terminal::OutputFilter;

/// Begins and ends what the script has to say; the record separator of ASCII, which terminals do
/// not show.
const SEPARATOR: u8 = 0x1e;
/// Bytes of output before the script speaks that are kept for an error.
const KEPT_BYTES: usize = 4096;
/// Random bytes of a mark.
const MARK_BYTES: usize = 16;

/// A command that runs on a terminal.
pub struct OnTerminal {
    /// Its session, for [`crate::terminal::carry`].
    pub session: Session,
    /// The duty to end that.
    pub ending: Ending,
    /// Takes the status out of the output, for [`crate::terminal::carry`].
    pub status: Box<dyn OutputFilter>,
}

/// Starts a command on a terminal with so many columns and rows. [`Request::stdin`] and
/// [`Request::time_limit`] are the caller's to see to.
///
/// # Errors
/// As [`super::start`]; a server without stty, or one on which the user may not be become.
pub async fn start_on_terminal(
    cx: &Context,
    instance: &Instance,
    request: &Request,
    (columns, rows): (u16, u16),
) -> Result<OnTerminal> {
    let payload = payload(request)?;
    let mark = random_hex(MARK_BYTES)?;
    let command = command_line(&bootstrap(&mark, payload.len()), request.user.as_deref())?;
    let mut options = OpenOptions::reason(request.reason.clone());
    options.urgency = request.urgency;
    let document = Document::Interactive { command };
    let connection = Box::pin(cx.open(instance, document, options)).await?;
    let (mut session, ending) = connection.into_parts();
    // Before the command runs: programs ask for the size when they start.
    let sized = session.sender.send_size(columns.into(), rows.into()).await;
    let mut ready = Ready::new(&mark);
    let failure = loop {
        if sized.is_err() {
            break None;
        }
        match session.events.next().await {
            Some(Event::Output(bytes)) => {
                if ready.hear(&bytes) {
                    let sent = session.sender.send(Bytes::from(payload)).await;
                    if sent.is_err() {
                        break None;
                    }
                    return Ok(OnTerminal {
                        session,
                        ending,
                        status: Box::new(StatusFilter::new(&mark)),
                    });
                }
            }
            Some(Event::Closed(closing)) => break ending.closed(&closing),
            Some(Event::Failed(error)) => break Some(ending.failed(&error)),
            Some(_) => {}
            None => break None,
        }
    };
    ending.ended();
    Err(failure.unwrap_or_else(|| ready.failure(instance, request.user.as_deref())))
}

/// What is typed: sets up folder and variables, and runs the command.
fn payload(request: &Request) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    if let Command::Script { bytes, .. } = &request.command {
        payload.extend_from_slice(b"script=$(umask 077; mktemp) || exit 255\n");
        payload.extend_from_slice(b"trap 'rm -f \"$script\"' EXIT\n");
        let line = format!(
            "printf \"{}\" >\"$script\" || exit 255\n",
            text::as_format(bytes)
        );
        payload.extend_from_slice(line.as_bytes());
        // In a shell of its own: the file is removed when that has ended.
        payload.extend_from_slice(b"(\n");
        payload.extend_from_slice(&text::of(request)?);
        payload.extend_from_slice(b")\n");
    } else {
        payload.extend_from_slice(&text::of(request)?);
    }
    Ok(payload)
}

/// The script that the document is given. Without single quotes: it stands between such.
///
/// The shell that waits for the command must outlive the signals of the terminal, which reach all
/// of its foreground; a trap is reset in the sub-shell that becomes the command. Bytes are read one
/// at a time: what is typed behind the payload is the command's.
fn bootstrap(mark: &str, payload_bytes: usize) -> String {
    format!(
        "m=$(stty -g) && stty raw -echo || exit 255; \
         printf \"\\036{mark} ready\\036\"; \
         c=$(dd bs=1 count={payload_bytes} 2>/dev/null); \
         stty \"$m\"; trap : INT QUIT; \
         ( trap - INT QUIT; eval \"$c\" ); \
         printf \"\\036{mark} exit %s\\036\" \"$?\""
    )
}

/// The document's command line.
fn command_line(script: &str, user: Option<&str>) -> Result<String> {
    match user {
        None => Ok(script.to_owned()),
        Some(user) if user.contains('\'') => Err(Error::usage(format!(
            "`{user}` cannot be the name of a user"
        ))),
        Some(user) => Ok(format!(
            "exec sudo -n -H -u '{user}' -- sh -c 'cd; {script}'"
        )),
    }
}

/// Waits for the script to say that it reads.
struct Ready {
    wanted: Vec<u8>,
    heard: Vec<u8>,
}

impl Ready {
    fn new(mark: &str) -> Self {
        let mut wanted = vec![SEPARATOR];
        wanted.extend_from_slice(format!("{mark} ready").as_bytes());
        wanted.push(SEPARATOR);
        Self {
            wanted,
            heard: Vec::new(),
        }
    }

    /// Whether it has said so by now.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        self.heard.extend_from_slice(bytes);
        let is_ready = self
            .heard
            .windows(self.wanted.len())
            .any(|window| window == self.wanted);
        let excess = self.heard.len().saturating_sub(KEPT_BYTES);
        self.heard.drain(..excess);
        is_ready
    }

    /// The session has ended before.
    fn failure(&self, instance: &Instance, user: Option<&str>) -> Error {
        let said = String::from_utf8_lossy(&self.heard);
        let said = said.trim();
        let label = instance.label();
        let error = match user {
            Some(user) if said.contains("sudo") => Error::new(
                ErrorKind::Denied,
                format!("the session on `{label}` may not become `{user}`"),
            )
            .hint(hint!(
                "allow it on the server, in /etc/sudoers.d: ssm-user ALL=({}) NOPASSWD: ALL",
                user
            )),
            _ => Error::target(format!(
                "no command could be started on a terminal of `{label}`"
            )),
        };
        if said.is_empty() {
            error
        } else {
            error.caused_by_lines(Text::foreign_lines(said))
        }
    }
}

/// Takes the status between its marks out of the output.
struct StatusFilter {
    /// What stands before the status.
    begin: Vec<u8>,
    /// The beginning of a mark, perhaps, held back until it is known.
    held: Vec<u8>,
    status: Option<u8>,
}

impl StatusFilter {
    fn new(mark: &str) -> Self {
        let mut begin = vec![SEPARATOR];
        begin.extend_from_slice(format!("{mark} exit ").as_bytes());
        Self {
            begin,
            held: Vec::new(),
            status: None,
        }
    }

    /// The status that `text` begins with, if it is all there.
    fn status_in(text: &[u8]) -> Option<u8> {
        let end = text.iter().position(|&byte| byte == SEPARATOR)?;
        std::str::from_utf8(&text[..end]).ok()?.parse().ok()
    }
}

impl OutputFilter for StatusFilter {
    fn pass(&mut self, piece: Bytes) -> Bytes {
        if self.status.is_some() {
            // Behind the status nothing comes but the end.
            return Bytes::new();
        }
        if self.held.is_empty() && !piece.contains(&SEPARATOR) {
            return piece;
        }
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(&piece);
        let mut from = 0;
        while let Some(at) = text[from..].iter().position(|&byte| byte == SEPARATOR) {
            let at = from + at;
            let rest = &text[at..];
            if let Some(behind) = rest.strip_prefix(self.begin.as_slice()) {
                self.status = Self::status_in(behind);
                // All of the mark, or what there is of it so far.
                if self.status.is_none() {
                    self.held = rest.to_vec();
                }
                text.truncate(at);
                return text.into();
            }
            if self.begin.starts_with(rest) {
                self.held = rest.to_vec();
                text.truncate(at);
                return text.into();
            }
            // Somebody else's separator.
            from = at + 1;
        }
        text.into()
    }

    fn status(&self) -> Option<Exit> {
        self.status.map(Exit::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "0011aabb";

    fn filtered(whole: &[u8], cut: usize) -> (Vec<u8>, Option<u8>) {
        let mut filter = StatusFilter::new(MARK);
        let mut shown = Vec::new();
        for piece in [&whole[..cut], &whole[cut..]] {
            shown.extend_from_slice(&filter.pass(Bytes::copy_from_slice(piece)));
        }
        (shown, filter.status().map(Exit::code))
    }

    #[test]
    fn the_status_is_taken_out_wherever_it_is_cut() {
        let whole = b"text\x1e other\x1e\r\n\x1e0011aabb exit 37\x1e";
        for cut in 0..=whole.len() {
            assert_eq!(
                filtered(whole, cut),
                (b"text\x1e other\x1e\r\n".to_vec(), Some(37)),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn what_only_looks_like_a_mark_is_output() {
        let whole = b"\x1e0011aabc exit 3\x1e$ ";
        for cut in 0..=whole.len() {
            assert_eq!(filtered(whole, cut), (whole.to_vec(), None), "cut at {cut}");
        }
    }

    #[test]
    fn the_script_holds_no_single_quote_and_no_command() {
        let script = bootstrap(MARK, 12);
        assert!(!script.contains('\''), "{script}");
        assert_eq!(
            command_line(&script, Some("me")).expect("a line"),
            format!("exec sudo -n -H -u 'me' -- sh -c 'cd; {script}'")
        );
        assert!(command_line(&script, Some("it's")).is_err());
    }

    #[test]
    fn what_was_said_before_is_kept_for_the_error() {
        let mut ready = Ready::new(MARK);
        assert!(!ready.hear(b"sudo: a password is required\r\n"));
        let error = ready.failure(
            &Instance::bare("i-0123456789abcdef0", "eu-west-1"),
            Some("me"),
        );
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.why()[0].contains("password"));
        assert!(ready.hear(b"\x1e0011aabb ready\x1e"));
    }
}
