//! Outputs that the service has cut, fetched whole: from the bucket or the log group that the
//! command put them into.

use std::time::Duration;

use ops_core::{
    Context,
    calls::{
        cloudwatch_logs::LogEvent,
        run_command::{Invocation, InvocationOutput, SentCommand},
    },
};
use ops_ui::{Error, ErrorKind, Result};

use super::streams::{self, Streams};

/// Names of the two streams, in S3 and CloudWatch alike.
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// What a command wrote on one server, as much of it as can be had: the list's text, else the
/// longer one of GetCommandInvocation, else the whole from where the command put it.
///
/// # Errors
/// GetCommandInvocation fails. Where the whole cannot be had, the beginning comes, marked as cut,
/// and `told` is given the reason.
pub(crate) async fn streams_of(
    cx: &Context,
    command: &SentCommand,
    invocation: &Invocation,
    told: &mut Option<Error>,
) -> Result<Streams> {
    if let Some(streams) = streams::of_list(&invocation.output) {
        return Ok(streams);
    }
    let content = cx
        .invocation_output(&command.region, &command.id, &invocation.instance_id)
        .await?;
    let Some(content) = content else {
        return Ok(Streams {
            is_cut: true,
            ..Streams::default()
        });
    };
    let streams = streams::of_contents(&content.stdout, &content.stderr);
    if !streams.is_cut {
        return Ok(streams);
    }
    match fetch(cx, command, invocation, &content).await {
        Ok(Some(whole)) => Ok(whole),
        Ok(None) => Ok(streams),
        Err(error) => {
            *told = Some(error);
            Ok(streams)
        }
    }
}

/// Where a command put its outputs.
enum KeptIn<'a> {
    Bucket(&'a str),
    LogGroup(&'a str),
}

impl<'a> KeptIn<'a> {
    /// The bucket where there are both: a log group loses carriage returns and what is no text.
    fn of(command: &'a SentCommand) -> Option<Self> {
        let places = &command.outputs;
        match (&places.bucket, &places.log_group) {
            (Some(bucket), _) => Some(Self::Bucket(bucket)),
            (None, Some(group)) => Some(Self::LogGroup(group)),
            (None, None) => None,
        }
    }
}

/// Both streams; `None` where the command put them nowhere.
async fn fetch(
    cx: &Context,
    command: &SentCommand,
    invocation: &Invocation,
    content: &InvocationOutput,
) -> Result<Option<Streams>> {
    let Some(kept) = KeptIn::of(command) else {
        return Ok(None);
    };
    let whole = async |name: &'static str, shown: &str, len: Length| {
        // A stream without a byte has no object and no log stream.
        if shown.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = match kept {
            KeptIn::Bucket(bucket) => from_bucket(cx, command, invocation, bucket, name).await?,
            KeptIn::LogGroup(group) => from_log(cx, command, invocation, group, name, len).await?,
        };
        check_beginning(&bytes, shown)?;
        Ok::<_, Error>(bytes)
    };
    // The end of error output tells how long the other stream is.
    let [out, err] = STREAMS;
    let len = Length::of_shown(&content.stderr, streams::STDERR_CHARACTERS);
    let stderr = whole(err, &content.stderr, len).await?;
    let mut streams = Streams::default();
    streams.set_stderr(&stderr);
    let len = match streams.stdout_bytes {
        // Zero is told too where the server could not count.
        Some(bytes @ 1..) => Length::Exactly(bytes),
        _ => Length::of_shown(&content.stdout, streams::STDOUT_CHARACTERS),
    };
    streams.stdout = whole(out, &content.stdout, len).await?;
    Ok(Some(streams))
}

/// What is known of the length of a stream, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Exactly(u64),
    AtLeast(u64),
}

impl Length {
    /// By what GetCommandInvocation shows of it, which is cut at `most` characters.
    fn of_shown(shown: &str, most: usize) -> Self {
        let len = shown.len() as u64;
        // A replacement of what is no text has another length than what it stands for.
        if shown.contains('\u{fffd}') {
            return Self::AtLeast(0);
        }
        if shown.chars().count() < most {
            Self::Exactly(len)
        } else {
            Self::AtLeast(len)
        }
    }

    const fn is_reached_by(self, len: u64) -> bool {
        let (Self::Exactly(least) | Self::AtLeast(least)) = self;
        len >= least
    }
}

/// The plugin's folders, as the agent names them for the documents of AWS.
fn folders(plugin: &str) -> String {
    let plain = plugin.replace(':', "");
    format!("{plain}/0.{plain}")
}

async fn from_bucket(
    cx: &Context,
    command: &SentCommand,
    invocation: &Invocation,
    bucket: &str,
    stream: &str,
) -> Result<Vec<u8>> {
    let prefix = command.outputs.key_prefix.trim_matches('/');
    let slash = if prefix.is_empty() { "" } else { "/" };
    let key = format!(
        "{prefix}{slash}{}/{}/{}/{stream}",
        command.id,
        invocation.instance_id,
        folders(&invocation.plugin)
    );
    let place = cx.bucket(bucket, "", &command.region).await?;
    let (len, mut pull) = place.stored(&key).await?.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("the bucket `{bucket}` does not hold `{key}`"),
        )
        .caused_by("the server may not write to it: its role needs s3:PutObject there")
    })?;
    let mut bytes = Vec::new();
    while let Some(piece) = pull.next().await? {
        bytes.extend_from_slice(&piece);
    }
    // The pull ends with an error where bytes are missing; this holds the two to each other.
    if bytes.len() as u64 != len {
        return Err(Error::unexpected(format!("`{key}` is not whole"))
            .caused_by(format!("{} of {len} bytes came", bytes.len())));
    }
    Ok(bytes)
}

async fn from_log(
    cx: &Context,
    command: &SentCommand,
    invocation: &Invocation,
    group: &str,
    stream: &str,
    len: Length,
) -> Result<Vec<u8>> {
    let name = format!(
        "{}/{}/{}/{stream}",
        command.id,
        invocation.instance_id,
        invocation.plugin.replace([':', '*'], "-")
    );
    let mut log = cx.log_stream(&command.region, group, &name);
    let mut events: Vec<LogEvent> = Vec::new();
    let mut looks = 1;
    loop {
        let is_missing = match log.next_page().await {
            Ok(Some(page)) => {
                events.extend(page);
                continue;
            }
            Ok(None) => false,
            Err(error) if error.kind() == ErrorKind::NotFound && looks < LOOKS_FOR_STREAM => true,
            Err(error) => {
                return Err(error
                    .hint("the servers' role needs logs:CreateLogStream and logs:PutLogEvents"));
            }
        };
        let bytes = joined_events(&events, len);
        if !is_missing && (len.is_reached_by(bytes.len() as u64) || looks == LOOKS) {
            return check_length(bytes, len, &name);
        }
        // The agent has sent all of it before it told the end, and the service may show that late.
        looks += 1;
        tokio::time::sleep(LATE_EVENTS).await;
    }
}

/// How often a stream that seems too short is looked at, and how often one that is not there.
const LOOKS: usize = 6;
const LOOKS_FOR_STREAM: usize = 2;
/// Between two looks.
const LATE_EVENTS: Duration = Duration::from_secs(1);
/// Bytes of the longest event. Source: `MessageLengthThresholdInBytes` of the agent's
/// cloudwatchlogspublisher.
const EVENT_BYTES: usize = 200_000;

/// The stream that an agent has made events of.
///
/// An event is whole lines, and what is sent after the command has ended lacks its last line feed.
/// A line that is longer than an event is sent in pieces, none of which has one.
fn joined_events(events: &[LogEvent], len: Length) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, event) in events.iter().enumerate() {
        bytes.extend_from_slice(event.message.as_bytes());
        let is_last = number + 1 == events.len();
        let is_piece = event.message.len() >= EVENT_BYTES;
        let lacks_end = !event.message.ends_with('\n') && !is_piece;
        let is_whole = is_last && len == Length::Exactly(bytes.len() as u64);
        if lacks_end && !is_whole {
            bytes.push(b'\n');
        }
    }
    bytes
}

fn check_length(bytes: Vec<u8>, len: Length, name: &str) -> Result<Vec<u8>> {
    match len {
        Length::Exactly(told) if told != bytes.len() as u64 => {
            Err(Error::unexpected(format!("the log stream `{name}` is not whole"))
                .caused_by(format!(
                    "it holds {} of {told} bytes; CloudWatch Logs loses carriage returns and what is no text",
                    bytes.len()
                ))
                .hint("have outputs kept byte for byte: `exec: { s3_bucket: NAME }` in the profile"))
        }
        _ => Ok(bytes),
    }
}

/// What the service shows has to be the beginning of the whole, and shorter.
fn check_beginning(whole: &[u8], shown: &str) -> Result<()> {
    let shown = shown.strip_suffix("--output truncated--").unwrap_or(shown);
    // The service has replaced what is no UTF-8, and may have cut within a character.
    let text = String::from_utf8_lossy(whole);
    let shown = shown.trim_end_matches('\u{fffd}');
    if text.starts_with(shown) || text.trim_end_matches('\n') == shown.trim_end_matches('\n') {
        return Ok(());
    }
    Err(
        Error::unexpected("what was kept of the output is not this command's")
            .caused_by("it does not begin as the service shows it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(messages: &[&str], len: Length) -> String {
        let events: Vec<LogEvent> = messages
            .iter()
            .map(|message| LogEvent {
                time_ms: 0,
                message: (*message).to_owned(),
            })
            .collect();
        String::from_utf8(joined_events(&events, len)).expect("text")
    }

    #[test]
    fn events_become_the_stream_that_they_were_made_of() {
        let open = Length::AtLeast(0);
        assert_eq!(joined(&["a\nb\n", "c"], open), "a\nb\nc\n");
        assert_eq!(joined(&["a\nb", "c"], Length::Exactly(5)), "a\nb\nc");
        assert_eq!(joined(&["a\nb", "c"], Length::Exactly(6)), "a\nb\nc\n");
        let long = "x".repeat(EVENT_BYTES);
        assert_eq!(joined(&[&long, "y"], open), format!("{long}y\n"));
        assert_eq!(joined(&[], open), "");
    }

    #[test]
    fn a_stream_of_another_length_is_not_taken_for_the_whole() {
        let check = |text: &str, len| check_length(text.as_bytes().to_vec(), len, "stream");
        assert!(check("abc", Length::Exactly(3)).is_ok());
        assert!(check("abc", Length::AtLeast(9)).is_ok());
        let error = check("ab", Length::Exactly(3)).expect_err("too short");
        assert!(
            error.one_line().contains("2 of 3 bytes"),
            "{}",
            error.one_line()
        );
    }

    #[test]
    fn a_length_is_known_of_what_is_shown_whole() {
        assert_eq!(Length::of_shown("abc", 4), Length::Exactly(3));
        assert_eq!(Length::of_shown("abcd", 4), Length::AtLeast(4));
        assert_eq!(Length::of_shown("a\u{fffd}", 4), Length::AtLeast(0));
    }
}
