//! `-t`: a command on a terminal, as `ops shell` is in all else.

use std::time::Duration;

use ops_core::Context;
use ops_remote::{
    exec::{OnTerminal, Request, start_on_terminal},
    terminal::{CarryEnd, carry},
};
use ops_ui::{Error, Exit, Result, Text, terminal};

use crate::{hosts::Host, single::unknown_end};

/// The size told where the terminal does not tell its own.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// Runs the command and gives its status.
///
/// # Errors
/// No terminal on standard input; as [`start_on_terminal`]; an end of the session before that of
/// the command.
pub(crate) async fn run(
    cx: &Context,
    host: &Host,
    request: Request,
    time_limit: Option<Duration>,
) -> Result<Exit> {
    let output = cx.output();
    if !output.stdin_is_terminal() {
        return Err(Error::usage("-t needs a terminal on standard input")
            .caused_by("standard input is a pipe, a file or nothing")
            .hint("leave out -t: output, error output and status come without a terminal too"));
    }
    let escape = cx.profile()?.session.escape().into();
    let label = host.instance.label();
    let spinner = output.spinner(format!("starting the command on {label}"));
    let size = terminal::size().unwrap_or(USUAL_SIZE);
    let started = Box::pin(start_on_terminal(cx, &host.instance, &request, size)).await;
    drop(spinner);
    let OnTerminal {
        mut session,
        ending,
        status,
    } = started?;
    let carried = carry(
        cx,
        &session.sender,
        &mut session.events,
        &ending,
        label,
        escape,
        Some(status),
    );
    let limit = async {
        match time_limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = Box::pin(carried) => ended,
        () = limit => {
            ending.terminate().await;
            return Ok(Exit::TIMEOUT);
        }
    };
    match ended {
        Ok(CarryEnd::FarSide(exit)) => {
            ending.ended();
            Ok(exit)
        }
        Ok(CarryEnd::Surprise(_)) => {
            ending.ended();
            Err(unknown_end())
        }
        Ok(CarryEnd::Escape) => {
            // Behind what the command wrote last.
            output.note(Text::from("\n").then(format!("ending the command on {label}")));
            ending.terminate().await;
            Ok(Exit::PASS_THROUGH)
        }
        Err(error) => {
            ending.terminate().await;
            Err(error)
        }
    }
}
