//! `-o json|yaml|jsonl`: one object for each server.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ops_remote::exec::Status;
use ops_ui::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Sink, View, uncarried};
use crate::{
    capture::{Capture, Stream},
    hosts::Host,
    outcome::{Ending, Outcome},
};

/// Version of the fields below: within one, fields are only added.
pub(crate) const API_VERSION: &str = "ops/v1";

/// Which document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Yaml,
    /// An object on each line, as each server ends.
    Jsonl,
}

/// What one server has to say.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) id: &'a str,
    pub(crate) region: &'a str,
    pub(crate) user: Option<&'a str>,
    /// `succeeded`, `failed`, `time-limit`, `not-run`, `not-started`.
    pub(crate) state: &'static str,
    /// As a shell tells it: 128 and its number for a signal.
    pub(crate) code: Option<u8>,
    /// The number of the signal that the status stands for.
    pub(crate) signal: Option<u8>,
    /// RFC 3339.
    pub(crate) start: Option<String>,
    pub(crate) seconds: f64,
    /// Why it did not run, or what came of it in words.
    pub(crate) why: Option<String>,
    /// `StatusDetails` of Run Command, where that ran it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service_status: Option<String>,
    /// Whether its output is not whole; of Run Command alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) truncated: Option<bool>,
}

impl<'a> Row<'a> {
    pub(crate) fn new(host: &'a Host, ending: &Ending) -> Self {
        let (code, signal) = match &ending.outcome {
            Outcome::Ended(status @ Status::Signal(number)) => {
                (Some(status.as_exit_code()), Some(*number))
            }
            Outcome::Ended(status) => (Some(status.as_exit_code()), None),
            Outcome::Failed(_)
            | Outcome::Unread(_)
            | Outcome::NotStarted(_)
            | Outcome::Cancelled => (None, None),
        };
        let words = ending.outcome.words();
        Self {
            name: host.instance.label(),
            id: &host.instance.id,
            region: &host.instance.region,
            user: host.user.as_deref(),
            state: ending.outcome.state(),
            code,
            signal,
            start: ending.started.map(|at| at.to_string()),
            seconds: (ending.took.as_secs_f64() * 1000.0).round() / 1000.0,
            why: (!words.is_empty()).then_some(words),
            service_status: ending.service_status.clone(),
            truncated: ending.service_status.is_some().then_some(ending.is_cut),
        }
    }
}

/// The view.
pub(crate) struct Document {
    form: Form,
    hosts: Vec<Host>,
    /// Boxed, because most places are empty.
    captures: Vec<Option<Box<Capture>>>,
    /// Of the servers that have ended, by their numbers.
    rows: BTreeMap<usize, Value>,
}

impl Document {
    pub(crate) fn new(hosts: Vec<Host>, form: Form) -> Self {
        let captures = hosts.iter().map(|_| None).collect();
        Self {
            form,
            hosts,
            captures,
            rows: BTreeMap::new(),
        }
    }

    fn row(&mut self, host: usize, ending: &Ending) -> Result<Value> {
        let row = Row::new(&self.hosts[host], ending);
        let mut value = serde_json::to_value(row).map_err(ops_ui::Error::unforeseen)?;
        let mut capture = self.captures[host].take();
        for (stream, name) in [(Stream::Stdout, "stdout"), (Stream::Stderr, "stderr")] {
            let bytes = match &mut capture {
                Some(capture) => capture.bytes_of(stream).map_err(uncarried)?,
                None => Vec::new(),
            };
            // Text where it is text; of two fields one is always null.
            let encoded = format!("{name}Base64");
            match String::from_utf8(bytes) {
                Ok(text) => {
                    value[name] = Value::String(text);
                    value[encoded] = Value::Null;
                }
                Err(error) => {
                    value[name] = Value::Null;
                    value[encoded] = Value::String(BASE64_STANDARD.encode(error.as_bytes()));
                }
            }
        }
        Ok(value)
    }
}

impl View for Document {
    fn hear(&mut self, host: usize, stream: Stream, piece: &[u8], _: &mut dyn Sink) -> Result<()> {
        self.captures[host]
            .get_or_insert_default()
            .add(stream, piece)
            .map_err(uncarried)
    }

    fn end(&mut self, host: usize, ending: &Ending, sink: &mut dyn Sink) -> Result<()> {
        let row = self.row(host, ending)?;
        if self.form == Form::Jsonl {
            return sink.document(self.form, &row);
        }
        self.rows.insert(host, row);
        Ok(())
    }

    fn finish(&mut self, sink: &mut dyn Sink) -> Result<()> {
        if self.form == Form::Jsonl {
            return Ok(());
        }
        let items: Vec<Value> = std::mem::take(&mut self.rows).into_values().collect();
        let document = json!({
            "apiVersion": API_VERSION,
            "kind": "ExecReport",
            "items": items,
        });
        sink.document(self.form, &document)
    }
}

#[cfg(test)]
mod tests {
    use ops_profile::Instance;

    use super::super::tests::RecordedOutput;
    use super::*;

    fn hosts(names: &[&str]) -> Vec<Host> {
        names
            .iter()
            .map(|name| Host {
                instance: Instance {
                    name: Some((*name).to_owned()),
                    ..Instance::bare("i-0123456789abcdef0", "eu-west-1")
                },
                user: None,
                label: (*name).to_owned(),
            })
            .collect()
    }

    fn ended(status: Status) -> Ending {
        Ending {
            outcome: Outcome::Ended(status),
            started: Some("2026-01-02T03:04:05Z".parse().expect("a time")),
            took: std::time::Duration::from_millis(1234),
            ..Ending::not_started("")
        }
    }

    #[test]
    fn a_document_has_an_object_for_each_server_in_their_order() {
        let mut view = Document::new(hosts(&["a", "b"]), Form::Json);
        let mut written = RecordedOutput::default();
        view.hear(1, Stream::Stdout, b"text\n", &mut written)
            .expect("kept");
        view.hear(1, Stream::Stderr, b"\xff", &mut written)
            .expect("kept");
        view.end(1, &ended(Status::Signal(15)), &mut written)
            .expect("kept");
        view.end(0, &Ending::not_started("a canary failed"), &mut written)
            .expect("kept");
        view.finish(&mut written).expect("written");
        let [document] = written.documents.as_slice() else {
            panic!("one document");
        };
        assert_eq!(document["apiVersion"], "ops/v1");
        let items = document["items"].as_array().expect("items");
        assert_eq!(items[0]["name"], "a");
        assert_eq!(items[0]["state"], "not-started");
        assert_eq!(items[0]["start"], Value::Null);
        assert_eq!(items[0]["stdout"], "");
        assert_eq!(
            items[1],
            json!({
                "name": "b", "id": "i-0123456789abcdef0", "region": "eu-west-1", "user": null,
                "state": "failed", "code": 143, "signal": 15, "start": "2026-01-02T03:04:05Z",
                "seconds": 1.234, "why": "exit status 143 (SIGTERM)",
                "stdout": "text\n", "stdoutBase64": null, "stderr": null, "stderrBase64": "/w==",
            })
        );
    }

    #[test]
    fn jsonl_has_a_line_as_each_server_ends() {
        let mut view = Document::new(hosts(&["a", "b"]), Form::Jsonl);
        let mut written = RecordedOutput::default();
        view.end(1, &ended(Status::Code(0)), &mut written)
            .expect("written");
        assert_eq!(written.documents.len(), 1);
        assert_eq!(written.documents[0]["name"], "b");
        view.end(0, &ended(Status::Code(7)), &mut written)
            .expect("written");
        view.finish(&mut written).expect("written");
        assert_eq!(written.documents.len(), 2);
        assert_eq!(written.documents[1]["code"], 7);
    }
}
