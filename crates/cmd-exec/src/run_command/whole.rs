//! Outputs that the service has cut, fetched whole: from the bucket or the log group that the
//! command put them into.

use ops_core::{
    Context,
    calls::run_command::{Invocation, InvocationOutput, SentCommand},
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
    let mut streams = streams::of_contents(&content.stdout, &content.stderr);
    if !streams.is_cut {
        return Ok(streams);
    }
    match fetch(cx, command, invocation, &content).await {
        Ok(Some([stdout, stderr])) => {
            streams.stdout = stdout;
            streams.set_stderr(&stderr);
            streams.is_cut = false;
        }
        Ok(None) => {}
        Err(error) => *told = Some(error),
    }
    Ok(streams)
}

/// Both streams; `None` where the command put them nowhere.
async fn fetch(
    cx: &Context,
    command: &SentCommand,
    invocation: &Invocation,
    content: &InvocationOutput,
) -> Result<Option<[Vec<u8>; 2]>> {
    let shown = [&content.stdout, &content.stderr];
    let mut whole = [Vec::new(), Vec::new()];
    for ((name, shown), whole) in STREAMS.into_iter().zip(shown).zip(&mut whole) {
        // A stream without a byte has no object and no log stream.
        if shown.is_empty() {
            continue;
        }
        let bytes = match (&command.outputs.bucket, &command.outputs.log_group) {
            (Some(bucket), _) => from_bucket(cx, command, invocation, bucket, name).await?,
            (None, Some(group)) => from_log(cx, command, invocation, group, name).await?,
            (None, None) => return Ok(None),
        };
        check_beginning(&bytes, shown)?;
        *whole = bytes;
    }
    Ok(Some(whole))
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
) -> Result<Vec<u8>> {
    let name = format!(
        "{}/{}/{}/{stream}",
        command.id,
        invocation.instance_id,
        invocation.plugin.replace([':', '*'], "-")
    );
    let mut log = cx.log_stream(&command.region, group, &name);
    let mut bytes = Vec::new();
    while let Some(events) = log.next_page().await? {
        for event in events {
            // Events are whole lines; the last line feed of all is lost on the way.
            if !bytes.is_empty() && !bytes.ends_with(b"\n") {
                bytes.push(b'\n');
            }
            bytes.extend_from_slice(event.message.as_bytes());
        }
    }
    if !bytes.is_empty() && !bytes.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    Ok(bytes)
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
