//! `ops sessions log`

use ops_core::{
    Context,
    calls::{
        SessionLogs,
        session_list::{SessionQuery, SessionRecord},
    },
};
use ops_session::documents;
use ops_ui::{Error, ErrorKind, Exit, Output, Result, hint};
use serde::Deserialize;

/// Longest piece of an object without an end of line that waits for one, in bytes.
const LINE_BYTES: usize = 64 << 10;

/// Which log.
#[derive(clap::Args, Debug)]
pub(crate) struct LogArgs {
    /// Id of the session
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// An event of a log group that gets a session line by line. Source: `CloudWatchMessage` in
/// agentlogstocloudwatch of the public amazon-ssm-agent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StreamedLines {
    #[serde(rename = "sessionId")]
    _session_id: String,
    session_data: Vec<String>,
}

pub(crate) async fn print_log(cx: &Context, id: &str) -> Result<Exit> {
    let session = find_session(cx, id).await?;
    let document = session.document.as_str();
    if is_tunnel(document) {
        return Err(no_log(&session)
            .caused_by(format!(
                "it is a tunnel (`{document}`), and the service logs none of those"
            ))
            .hint("who was on which server, and when: ops sessions --history"));
    }
    // The account's preferences are a document too, and one of a team's own stands in its place.
    // AWS's have no word about logs.
    let document = if document.starts_with("AWS-") {
        documents::SHELL
    } else {
        document
    };
    let preferences = cx.session_preferences(document, &session.region).await?;
    let logs = preferences.logs;
    if !logs.are_kept() {
        return Err(no_log(&session)
            .caused_by(format!(
                "`{document}` in {} names neither `cloudWatchLogGroupName` nor `s3BucketName`",
                session.region
            ))
            .hint("have one of them set: Systems Manager in the console, Session Manager, Preferences; sessions that are opened afterwards are logged"));
    }
    let mut tried: Vec<Error> = Vec::new();
    if let Some(group) = &logs.log_group {
        let written = Box::pin(from_log_group(cx, &session, group));
        match cx.output().stream_through_pager(written).await {
            Ok(()) => return Ok(Exit::SUCCESS),
            Err(error) => tried.push(may_go_on(error)?),
        }
    }
    if let Some((bucket, prefix)) = &logs.bucket {
        let written = Box::pin(from_bucket(cx, &session, bucket, prefix));
        match cx.output().stream_through_pager(written).await {
            Ok(()) => return Ok(Exit::SUCCESS),
            Err(error) => tried.push(may_go_on(error)?),
        }
    }
    Err(not_there(&session, &logs, &tried))
}

/// Whether sessions with `document` carry a port and no output.
fn is_tunnel(document: &str) -> bool {
    [
        documents::SSH,
        documents::PORT_FORWARDING,
        documents::PORT_FORWARDING_TO_REMOTE_HOST,
    ]
    .contains(&document)
}

/// The other place may have what this one has not, or does not give.
fn may_go_on(error: Error) -> Result<Error> {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Denied => Ok(error),
        _ => Err(error),
    }
}

/// The session `id`, open or past.
async fn find_session(cx: &Context, id: &str) -> Result<SessionRecord> {
    let regions = cx.regions().await?;
    for history in [false, true] {
        let query = SessionQuery {
            history,
            id: Some(id.to_owned()),
            ..SessionQuery::default()
        };
        let listing = cx.list_sessions(&query, &regions).await?;
        if let Some(session) = listing.sessions.into_iter().find(|found| found.id == id) {
            return Ok(session);
        }
        if let Some(failure) = listing.lacks.into_failure() {
            return Err(failure);
        }
    }
    Err(
        Error::new(ErrorKind::NotFound, format!("there is no session `{id}`"))
            .caused_by(format!(
                "the service knows none of that id in {}; it remembers 30 days",
                regions.join(", ")
            ))
            .hint("see which there were: ops sessions --history"),
    )
}

/// Writes the events of the session's stream, which has the session's id.
async fn from_log_group(cx: &Context, session: &SessionRecord, group: &str) -> Result<()> {
    let mut stream = cx.log_stream(&session.region, group, &session.id);
    let mut is_empty = true;
    while let Some(events) = stream.next_page().await? {
        is_empty = false;
        for event in events {
            write_lines(cx.output(), text_of(&event.message).as_bytes())?;
        }
    }
    if is_empty {
        cx.output().note("the log is empty");
    }
    Ok(())
}

/// The lines of an event, each with its end.
fn text_of(message: &str) -> String {
    let mut text = match serde_json::from_str::<StreamedLines>(message) {
        Ok(lines) => lines.session_data.join("\n"),
        // What is uploaded at the end of a session is the output as it was.
        Err(_) => message.to_owned(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Writes the session's object.
async fn from_bucket(
    cx: &Context,
    session: &SessionRecord,
    bucket: &str,
    prefix: &str,
) -> Result<()> {
    let key = key_of(prefix, &session.id);
    let place = cx.bucket(bucket, "", &session.region).await?;
    let Some(mut object) = place.read(&key).await? else {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("the bucket `{bucket}` has no object `{key}`"),
        ));
    };
    let mut held = Vec::new();
    while let Some(piece) = object.next().await? {
        held.extend_from_slice(&piece);
        // Whole lines alone: a character may be cut between two pieces.
        let end = held
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map(|at| at + 1);
        if let Some(end) = end.or_else(|| (held.len() > LINE_BYTES).then_some(held.len())) {
            write_lines(cx.output(), &held[..end])?;
            held.drain(..end);
        }
    }
    if !held.is_empty() {
        held.push(b'\n');
        write_lines(cx.output(), &held)?;
    }
    Ok(())
}

/// The key of a session's log. Source: `BuildS3Path` in fileutil of the public amazon-ssm-agent,
/// which joins as Go's `path.Join` does and leaves colons out of the name.
fn key_of(prefix: &str, id: &str) -> String {
    let root = if prefix.starts_with('/') { "/" } else { "" };
    let mut parts: Vec<&str> = prefix
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let name = format!("{}.log", id.replace(':', ""));
    parts.push(&name);
    format!("{root}{}", parts.join("/"))
}

/// Writes what a server has printed: as it is to a program, harmless to a terminal.
fn write_lines(output: &Output, lines: &[u8]) -> Result<()> {
    if output.stdout_is_terminal() {
        output.page(&String::from_utf8_lossy(lines).replace("\r\n", "\n"))
    } else {
        output.pass_stdout_lines(lines)
    }
}

fn no_log(session: &SessionRecord) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("no log is kept of the session `{}`", session.id),
    )
}

/// Words where the account keeps logs, and this one could not be had.
fn not_there(session: &SessionRecord, logs: &SessionLogs, tried: &[Error]) -> Error {
    let is_denied = tried.iter().any(|error| error.kind() == ErrorKind::Denied);
    let kind = if is_denied {
        ErrorKind::Denied
    } else {
        ErrorKind::NotFound
    };
    let mut error = Error::new(
        kind,
        format!("the log of the session `{}` cannot be had", session.id),
    );
    for failure in tried {
        error = error.caused_by(failure.what()).caused_as(failure);
    }
    for failure in tried
        .iter()
        .filter(|error| error.kind() == ErrorKind::Denied)
    {
        error = error.hinted_as(failure);
    }
    let is_open = !matches!(session.status.as_str(), "Terminated" | "Failed");
    if is_open && !logs.is_streamed {
        return error
            .caused_by("the session is open, and its log is written when it ends")
            .hint(hint!("end it: ops sessions end {}", session.id.as_str()));
    }
    if is_denied {
        return error;
    }
    error.hint("the role of the server writes it: have it checked for `logs:CreateLogStream`, `logs:PutLogEvents` and `s3:PutObject` there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_the_lines_of_a_session_in_both_forms() {
        let streamed = r#"{"eventVersion":"1.0","eventTime":"2026-01-31T12:00:00Z","awsRegion":"eu-west-1","target":{"id":"i-0a1b2c3d4e5f60718"},"userIdentity":{"arn":"arn:aws:iam::111122223333:user/alice"},"runAsUser":"ssm-user","sessionId":"alice-1","sessionData":["$ id","uid=1001(ssm-user)"]}"#;
        assert_eq!(text_of(streamed), "$ id\nuid=1001(ssm-user)\n");
        assert_eq!(text_of("$ id\nuid=0"), "$ id\nuid=0\n");
        // What was printed may be JSON of its own.
        assert_eq!(text_of("{\"a\":1}\n"), "{\"a\":1}\n");
    }

    #[test]
    fn a_key_is_what_the_agent_makes_of_prefix_and_id() {
        for (prefix, key) in [
            ("", "alice-1.log"),
            ("logs", "logs/alice-1.log"),
            ("logs//ssm/", "logs/ssm/alice-1.log"),
            ("/logs", "/logs/alice-1.log"),
        ] {
            assert_eq!(key_of(prefix, "alice-1"), key);
        }
        assert_eq!(key_of("", "a:b-1"), "ab-1.log");
    }
}
