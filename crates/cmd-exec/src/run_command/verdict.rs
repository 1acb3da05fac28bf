//! How a command ended on a server, out of what the service says of it.

use std::time::Duration;

use ops_core::calls::run_command::Invocation;
use ops_remote::exec::Status;
use ops_ui::Error;

use super::streams::Streams;
use crate::outcome::{Ending, Outcome};

/// The ending of an invocation that is over, on the server called `label`.
pub(crate) fn ending(invocation: &Invocation, streams: &Streams, label: &str) -> Ending {
    let took = match (invocation.started, invocation.finished) {
        (Some(start), Some(end)) => Duration::try_from(end - start.min(end)).unwrap_or_default(),
        _ => Duration::ZERO,
    };
    Ending {
        outcome: outcome(invocation, streams, label),
        started: invocation.started,
        took,
        service_status: Some(invocation.status.clone()),
        is_cut: streams.is_cut,
    }
}

fn outcome(invocation: &Invocation, streams: &Streams, label: &str) -> Outcome {
    let failed = |why: &str| Outcome::Failed(Error::target(format!("`{label}` {why}")));
    match &*invocation.status.replace(' ', "") {
        "Success" | "Failed" => Outcome::Ended(status(invocation, streams)),
        // A script that exits with 137 is told alike; ours never does.
        "ExecutionTimedOut" | "TimedOut" => match streams.status {
            Some(told) => Outcome::Ended(Status::from_exit_code(told)),
            None => Outcome::Ended(Status::TimeLimit),
        },
        "Cancelled" | "Canceled" => Outcome::Cancelled,
        "Terminated" => Outcome::NotStarted("too many others failed".to_owned()),
        "DeliveryTimedOut" => failed("did not take the command in time"),
        "Undeliverable" => failed("is not reached by Run Command"),
        "InvalidPlatform" => failed("is of a platform that the document does not run on"),
        "AccessDenied" => failed("may not be sent commands by this caller"),
        other => failed(&format!("ended as `{other}`")),
    }
}

fn status(invocation: &Invocation, streams: &Streams) -> Status {
    if let Some(told) = streams.status {
        return Status::from_exit_code(told);
    }
    if let Some(signal) = streams.signal {
        return Status::Signal(signal);
    }
    match invocation.code {
        Some(code @ 0..=255) => Status::from_exit_code(u8::try_from(code).unwrap_or(u8::MAX)),
        None if &*invocation.status == "Success" => Status::Code(0),
        // Windows has larger ones, and none at all is a failure too.
        _ => Status::Code(u8::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: &str, code: i32, streams: &Streams) -> (&'static str, Option<u8>) {
        let invocation = Invocation {
            instance_id: "i-0".to_owned(),
            instance_name: String::new(),
            status: status.to_owned(),
            code: Some(code),
            started: None,
            finished: None,
            output: String::new(),
            plugin: String::new(),
        };
        let ending = ending(&invocation, streams, "web-1");
        let exit = ending.outcome.exit().map(ops_ui::Exit::code);
        (ending.outcome.state(), exit)
    }

    #[test]
    fn each_status_of_the_service_has_its_end() {
        let none = Streams::default();
        assert_eq!(told("Success", 0, &none), ("succeeded", Some(0)));
        assert_eq!(told("Failed", 3, &none), ("failed", Some(3)));
        assert_eq!(
            told("Execution Timed Out", 137, &none),
            ("time-limit", Some(124))
        );
        assert_eq!(told("Cancelled", 137, &none), ("cancelled", None));
        assert_eq!(told("Terminated", -1, &none), ("not-started", None));
        assert_eq!(
            told("Delivery Timed Out", -1, &none),
            ("not-run", Some(255))
        );
        assert_eq!(told("Undeliverable", -1, &none), ("not-run", Some(255)));
        let own = Streams {
            status: Some(194),
            ..Streams::default()
        };
        assert_eq!(told("Failed", 1, &own), ("failed", Some(194)));
        let killed = Streams {
            signal: Some(9),
            ..Streams::default()
        };
        assert_eq!(told("Failed", -1, &killed), ("failed", Some(137)));
    }
}
