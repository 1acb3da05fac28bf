//! Log streams of CloudWatch: logs:GetLogEvents.

use ops_ui::{Error, ErrorKind, Result, hint};
use serde::{Deserialize, Serialize};

use crate::{
    aws::{
        Service,
        direct::{DirectCall, Input, Limits},
    },
    context::Context,
    inventory::Pages,
};

/// The name of the operation in `X-Amz-Target`. Source: the service model of CloudWatch Logs.
const TARGET: &str = "Logs_20140328.GetLogEvents";

/// Pages of one stream, of up to 10,000 events or a megabyte each.
const PAGES: usize = 100_000;

/// One event of a log stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LogEvent {
    /// When it happened, in milliseconds since 1970.
    #[serde(default, rename = "timestamp")]
    pub time_ms: i64,
    /// What was logged; without a line end of its own.
    #[serde(default)]
    pub message: String,
}

/// A log stream, read from its beginning.
pub struct LogStream<'a> {
    cx: &'a Context,
    region: &'a str,
    group: &'a str,
    stream: &'a str,
    /// Where the next page begins; `None` before the first.
    token: Option<String>,
    /// Ends what a service without end would go on with.
    following: Pages,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    log_group_name: &'a str,
    log_stream_name: &'a str,
    start_from_head: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    events: Vec<LogEvent>,
    next_forward_token: Option<String>,
}

impl Context {
    /// The stream `stream` of the log group `group` in `region`. Asks nobody yet.
    pub fn log_stream<'a>(
        &'a self,
        region: &'a str,
        group: &'a str,
        stream: &'a str,
    ) -> LogStream<'a> {
        LogStream {
            cx: self,
            region,
            group,
            stream,
            token: None,
            following: Pages::of("logs:GetLogEvents", PAGES),
        }
    }
}

impl LogStream<'_> {
    /// The next events, the oldest first; `None` once there are no more for now. Asked again later,
    /// it goes on where it ended.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]: there is no such group, or no such stream in it. A denial; no
    /// answer.
    pub async fn next_page(&mut self) -> Result<Option<Vec<LogEvent>>> {
        let aws = self.cx.aws().await?;
        loop {
            let body = serde_json::to_vec(&Request {
                log_group_name: self.group,
                log_stream_name: self.stream,
                start_from_head: true,
                next_token: self.token.as_deref(),
            })
            .unwrap_or_default();
            let call = DirectCall {
                service: Service::CloudWatchLogs,
                region: self.region,
                input: Input::Json {
                    target: TARGET,
                    body: &body,
                },
                limits: Limits::USUAL,
            };
            let answer = aws.ask(&call).await.and_then(|answer| answer.json());
            let page: Page = answer.map_err(|failure| {
                if failure.code() == Some("ResourceNotFoundException") {
                    return self.not_found();
                }
                let resource = format!("log group {}", self.group);
                let call = aws.call("logs:GetLogEvents", Some(resource), self.region);
                failure.told(&call, self.what())
            })?;
            // A page may be empty with more behind it. The end is where the token stays as it is.
            // Source: the API reference of GetLogEvents.
            let is_last =
                page.next_forward_token.is_none() || page.next_forward_token == self.token;
            if !is_last {
                self.token = self.following.next(page.next_forward_token)?;
            }
            if !page.events.is_empty() {
                return Ok(Some(page.events));
            }
            if is_last {
                return Ok(None);
            }
        }
    }

    fn what(&self) -> String {
        format!(
            "cannot read the log stream `{}` of the group `{}`",
            self.stream, self.group
        )
    }

    fn not_found(&self) -> Error {
        Error::new(ErrorKind::NotFound, self.what())
            .caused_by(format!(
                "there is no such group or no such stream in region `{}`",
                self.region
            ))
            .hint(hint!(
                "see what streams there are: aws logs describe-log-streams --log-group-name {} --region {}",
                self.group,
                self.region
            ))
    }
}
