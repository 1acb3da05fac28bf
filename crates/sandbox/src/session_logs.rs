//! The logs of sessions: what the agent puts into S3 and CloudWatch when a session ends, where the
//! account's preferences say so.

use std::{io, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use serde_json::json;

use crate::{
    fleet::InstanceState,
    log_groups::{LogEvent, LogGroups},
};

/// Longest event of a log that is uploaded whole, in bytes. Source:
/// `MessageLengthThresholdInBytes` in agentlogstocloudwatch of the public amazon-ssm-agent.
const EVENT_BYTES: usize = 200_000;
/// Longest event of one that is streamed, in bytes: `StreamMessageLengthThresholdInBytes` there.
const STREAMED_EVENT_BYTES: usize = 33_000;

/// Where the output of one session goes, and what an event of it tells.
#[derive(Debug)]
pub(crate) struct SessionUpload {
    /// The file of the object in the minimal S3.
    pub(crate) object: Option<PathBuf>,
    pub(crate) log_groups: Arc<LogGroups>,
    pub(crate) log_group: Option<String>,
    /// Events are objects of JSON, as those of a session that is streamed.
    pub(crate) is_streamed: bool,
    pub(crate) region: String,
    pub(crate) target: String,
    /// ARN.
    pub(crate) owner: String,
    pub(crate) session_id: String,
}

/// The key of a session's log.
pub(crate) fn key_of(prefix: &str, session_id: &str) -> String {
    let name = format!("{session_id}.log");
    let parts = prefix.split('/').filter(|part| !part.is_empty());
    let parts: Vec<&str> = parts.chain([name.as_str()]).collect();
    parts.join("/")
}

impl SessionUpload {
    /// Uploads what the session has printed on `machine`.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub(crate) fn finish(&self, machine: &InstanceState) -> io::Result<()> {
        let printed = std::fs::read(machine.kept_output(&self.session_id)?)?;
        if let Some(path) = &self.object {
            std::fs::write(path, &printed)?;
        }
        if let Some(group) = &self.log_group {
            let text = String::from_utf8_lossy(&printed);
            let events = self.events(&text);
            // Without a line there is no stream either.
            if !events.is_empty() {
                self.log_groups.put(group, &self.session_id, events);
            }
        }
        Ok(())
    }

    fn events(&self, text: &str) -> Vec<LogEvent> {
        let most = if self.is_streamed {
            STREAMED_EVENT_BYTES
        } else {
            EVENT_BYTES
        };
        let mut events = Vec::new();
        let mut held = String::new();
        for line in text.split_inclusive('\n') {
            if held.len() + line.len() > most && !held.is_empty() {
                events.push(self.event(&held));
                held.clear();
            }
            held.push_str(line);
        }
        if !held.is_empty() {
            events.push(self.event(&held));
        }
        events
    }

    fn event(&self, text: &str) -> LogEvent {
        let at = Timestamp::now();
        let message = if self.is_streamed {
            let text = text.replace('\t', " ").replace('\r', "");
            let lines: Vec<&str> = text.trim_end_matches('\n').split('\n').collect();
            json!({
                "eventVersion": "1.0",
                "eventTime": at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "awsRegion": self.region,
                "target": { "id": self.target },
                "userIdentity": { "arn": self.owner },
                "runAsUser": "ssm-user",
                "sessionId": self.session_id,
                "sessionData": lines,
            })
            .to_string()
        } else {
            let text = text.replace("\r\n", "\n");
            text.strip_suffix('\n').unwrap_or(&text).to_owned()
        };
        LogEvent { at, message }
    }
}
