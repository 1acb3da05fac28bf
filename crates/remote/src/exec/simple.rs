//! A command over what [`crate::pipe`] offers: it ends with its session.

use base64::Engine as _;
use bytes::Bytes;
use ops_core::Context;
use ops_profile::Instance;
use ops_ui::{Error, Result};

use super::{Command, Control, Ends, Event, Input, Request, Signal, Status, text};
use crate::pipe::{Chunk, Down, Far, Known, Pipe, Up};

/// Runs the lines of `command` with its error output as messages: 3,072 bytes of it make a line
/// that is not cut off.
const BODY: &str = "exec 8>&1
s=$( { { ( eval \"$command\" ) 2>&1 >&8 7>&- 8>&-; echo \"$?\" >&7; } |
{ while v=$(dd bs=3072 count=1 2>/dev/null | $e | tr -d \"\\n\"); [ -n \"$v\" ]; do printf \"!x %s\\n\" \"$v\" >&6; done; } 7>&-
} 7>&1 )
[ -z \"$script\" ] || rm -f \"$script\"
exit \"$s\"
";

pub(super) async fn start(
    cx: &Context,
    instance: &Instance,
    request: Request,
    command: &[u8],
    ends: Ends,
) -> Result<()> {
    let far = Far {
        cx: cx.clone(),
        instance: instance.clone(),
        user: request.user.clone(),
        document: request.document.clone(),
        reason: request.reason.clone(),
        urgency: request.urgency,
        known: Known::default(),
    };
    let mut script = String::from("script=\n");
    if let Command::Script { bytes, .. } = &request.command {
        script.push_str(&format!(
            "script=$(umask 077; mktemp) && printf \"{}\" >\"$script\" || exit 255\n",
            text::as_format(bytes)
        ));
    }
    script.push_str(&format!(
        "command=$(printf \"{}\")\n",
        text::as_format(command)
    ));
    script.push_str(BODY);
    let (down, up) = if request.stdin {
        let Pipe { down, up } = Pipe::start(&far, &script).await?;
        (down, Some(up))
    } else {
        (Down::start(&far, &script).await?, None)
    };
    cx.interrupt()
        .finish_later(carry(down, up, ends, request.time_limit));
    Ok(())
}

async fn carry(
    mut down: Down,
    up: Option<Up>,
    ends: Ends,
    time_limit: Option<std::time::Duration>,
) {
    let Ends {
        events,
        mut control,
        input,
    } = ends;
    let limit = async {
        match time_limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let asked = async {
        loop {
            match control.recv().await {
                Some(Control::Signal(signal)) => {
                    break Status::Signal(match signal {
                        Signal::Interrupt => 2,
                        Signal::Terminate => 15,
                        Signal::HangUp => 1,
                        Signal::Kill => 9,
                    });
                }
                Some(Control::StdoutClosed) => break Status::Signal(13),
                None => std::future::pending().await,
            }
        }
    };
    let feeding = feed(up, input);
    let read = async {
        let _ = events.send(Ok(Event::Started)).await;
        read(&mut down, &events).await
    };
    let result = tokio::select! {
        result = read => result,
        () = limit => Ok(Status::TimeLimit),
        status = asked => Ok(status),
        () = events.closed() => return,
        never = feeding => never,
    };
    drop(down);
    let _ = events.send(result.map(Event::Ended)).await;
}

async fn feed(up: Option<Up>, input: Option<tokio::sync::mpsc::Receiver<Input>>) -> Result<Status> {
    if let (Some(mut up), Some(mut input)) = (up, input) {
        while let Some(piece) = input.recv().await {
            let sent = match piece {
                Input::Bytes(bytes) => up.send(bytes).await,
                Input::End => up.end().await,
            };
            if sent.is_err() {
                break;
            }
        }
        drop(input);
        // Its end would be the command's.
        let _keep = up;
        return std::future::pending().await;
    }
    std::future::pending().await
}

async fn read(
    down: &mut Down,
    events: &tokio::sync::mpsc::Sender<Result<Event>>,
) -> Result<Status> {
    while let Some(chunk) = down.next().await? {
        let event = match chunk {
            Chunk::Bytes(bytes) => Event::Stdout(bytes),
            Chunk::Message(text) => match text.strip_prefix("x ") {
                Some(digits) => {
                    let bytes = base64::engine::general_purpose::STANDARD
                        .decode(digits)
                        .map_err(|error| {
                            Error::unexpected("the server's error output cannot be read")
                                .caused_by(error)
                        })?;
                    Event::Stderr(Bytes::from(bytes))
                }
                None => continue,
            },
        };
        let _ = events.send(Ok(event)).await;
    }
    match down.status().and_then(|status| u8::try_from(status).ok()) {
        Some(code) => Ok(Status::from_exit_code(code)),
        None => Err(down.failed("the status of the command is not known")),
    }
}
