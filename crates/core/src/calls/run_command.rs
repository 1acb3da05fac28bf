//! Run Command: SendCommand, and what becomes of what was sent.
//!
//! Sources of the limits: the service's model, "Run commands at scale" in the Systems Manager user
//! guide.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_sdk_ssm::{
    error::ProvideErrorMetadata,
    types::{
        CloudWatchOutputConfig, Command, CommandFilter, CommandFilterKey, CommandInvocation,
        InstanceInformationStringFilter, PingStatus, Target,
    },
};
use aws_smithy_types::DateTime;
use jiff::Timestamp;
use ops_ui::{Error, ErrorKind, Result, hint};

use crate::{aws::code_of, context::Context};

/// Most ids of one command, and most values of one target.
pub const MOST_IDS: usize = 50;
/// Most targets of one command, which all have to hold.
pub const MOST_TARGETS: usize = 5;
/// Characters of a comment.
pub const COMMENT_CHARACTERS: usize = 100;
/// Invocations and commands of one page.
const PAGE: i32 = 50;
/// The key of a target that means the members of a resource group. Source: the documentation of
/// `Target` in the service's model.
const RESOURCE_GROUP: &str = "resource-groups:Name";
/// The shortest and the longest time until a command has to have reached a node.
const DELIVERY_SECONDS: std::ops::RangeInclusive<u64> = 30..=2_592_000;

/// What is sent.
#[derive(Clone, Debug)]
pub struct SendRequest {
    /// The document.
    pub document: String,
    /// Its parameters.
    pub parameters: BTreeMap<String, Vec<String>>,
    /// To whom.
    pub nodes: Nodes,
    /// At most [`COMMENT_CHARACTERS`] of it are kept.
    pub comment: String,
    /// Nodes at the same time.
    pub max_concurrency: usize,
    /// Failures that are borne; `None`: whatever fails.
    pub max_errors: Option<usize>,
    /// Until when a node may take it, from 30 s to 30 days; `None`: the service's own hour.
    pub delivery_timeout: Option<Duration>,
    /// Where whole outputs go.
    pub outputs: OutputPlaces,
}

/// The nodes of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// At most [`MOST_IDS`] of them.
    Ids(Vec<String>),
    /// Tags with their values: nodes that have one value of each.
    Tags(Vec<(String, Vec<String>)>),
    /// The managed nodes of a resource group.
    ResourceGroup(String),
}

/// Where whole outputs are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputPlaces {
    /// A bucket of S3.
    pub bucket: Option<String>,
    /// In front of the keys in the bucket.
    pub key_prefix: String,
    /// A log group of CloudWatch.
    pub log_group: Option<String>,
}

/// A command that was sent, and how far it is.
#[derive(Clone, Debug)]
pub struct SentCommand {
    /// Its id.
    pub id: String,
    /// Its region.
    pub region: String,
    /// Its document.
    pub document: String,
    /// What its sender said of it.
    pub comment: String,
    /// When it was sent.
    pub requested: Option<Timestamp>,
    /// `StatusDetails`.
    pub status: String,
    /// How many nodes there are; 0 as long as the service has not found them.
    pub targets: usize,
    /// How many of them are done with it, in whatever way.
    pub completed: usize,
    /// Where it failed, or took too long.
    pub errors: usize,
    /// Which did not take it in time.
    pub delivery_timed_out: usize,
    /// The nodes that were named by their ids.
    pub instance_ids: Vec<String>,
    /// Where whole outputs are.
    pub outputs: OutputPlaces,
}

impl SentCommand {
    /// Whether all that will happen has happened.
    pub fn is_over(&self) -> bool {
        is_terminal(&self.status)
    }
}

/// A command on one node.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The node.
    pub instance_id: String,
    /// What the service calls the node; may be empty.
    pub instance_name: String,
    /// `StatusDetails`.
    pub status: String,
    /// As the agent reports it; `None` where nothing ran.
    pub code: Option<i32>,
    /// When it began there.
    pub started: Option<Timestamp>,
    /// When it ended there.
    pub finished: Option<Timestamp>,
    /// The beginning of both streams in one text, 2,500 characters at most.
    pub output: String,
    /// The name of the plugin that ran.
    pub plugin: String,
}

impl Invocation {
    /// Whether all that will happen has happened.
    pub fn is_over(&self) -> bool {
        is_terminal(&self.status)
    }
}

/// The longer beginnings of both streams.
#[derive(Clone, Debug)]
pub struct InvocationOutput {
    /// 24,000 characters at most.
    pub stdout: String,
    /// 8,000 characters at most.
    pub stderr: String,
}

/// A page of invocations, and where the next one begins.
#[derive(Debug, Default)]
pub struct InvocationPage {
    /// In no order that anybody promises.
    pub invocations: Vec<Invocation>,
    /// `None` at the end.
    pub next: Option<String>,
}

/// Which commands of the history are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryQuery {
    /// Sent then or later.
    pub since: Option<Timestamp>,
    /// So many at most, the newest.
    pub limit: usize,
}

/// Whether a status says that nothing more will happen. The documentation spells some with blanks.
fn is_terminal(status: &str) -> bool {
    !matches!(
        &*status.replace(' ', ""),
        "Pending" | "InProgress" | "Delayed" | "Cancelling" | ""
    )
}

impl Context {
    /// Sends a command (SendCommand).
    ///
    /// # Errors
    /// What the service refuses: a document or parameters that it does not know, a node that it
    /// does not manage, a bucket that is missing; a denial, with the IAM statement.
    pub async fn send_command(&self, region: &str, request: &SendRequest) -> Result<SentCommand> {
        let aws = self.aws().await?;
        aws.credentials().await?;
        let mut call = aws
            .clients(region)
            .ssm
            .send_command()
            .document_name(&request.document)
            .comment(cut(&request.comment, COMMENT_CHARACTERS))
            .max_concurrency(request.max_concurrency.max(1).to_string())
            // Without a word the service bears no failure at all.
            .max_errors(
                request
                    .max_errors
                    .map_or_else(|| "100%".to_owned(), |most| most.to_string()),
            );
        for (name, values) in &request.parameters {
            call = call.parameters(name, values.clone());
        }
        call = match &request.nodes {
            Nodes::Ids(ids) => call.set_instance_ids(Some(ids.clone())),
            Nodes::ResourceGroup(name) => {
                call.targets(Target::builder().key(RESOURCE_GROUP).values(name).build())
            }
            Nodes::Tags(tags) => call.set_targets(Some(
                tags.iter()
                    .map(|(key, values)| {
                        Target::builder()
                            .key(format!("tag:{key}"))
                            .set_values(Some(values.clone()))
                            .build()
                    })
                    .collect(),
            )),
        };
        if let Some(timeout) = request.delivery_timeout {
            let seconds = timeout
                .as_secs()
                .clamp(*DELIVERY_SECONDS.start(), *DELIVERY_SECONDS.end());
            call = call.timeout_seconds(i32::try_from(seconds).unwrap_or(i32::MAX));
        }
        let outputs = &request.outputs;
        if let Some(bucket) = &outputs.bucket {
            call = call
                .output_s3_bucket_name(bucket)
                .output_s3_key_prefix(&outputs.key_prefix);
        }
        if let Some(group) = &outputs.log_group {
            call = call.cloud_watch_output_config(
                CloudWatchOutputConfig::builder()
                    .cloud_watch_log_group_name(group)
                    .cloud_watch_output_enabled(true)
                    .build(),
            );
        }
        let answer = call.send().await.map_err(|error| {
            let what = "the command could not be sent";
            let call = aws.call("ssm:SendCommand", Some(request.document.clone()), region);
            match code_of(&error) {
                Some("InvalidInstanceId") => call
                    .failed_as(ErrorKind::Unreachable, what, &error)
                    .hint("see which servers have an agent: ops ls -o wide"),
                Some("InvalidDocument" | "InvalidParameters" | "InvalidOutputFolder") => {
                    call.failed_as(ErrorKind::Usage, what, &error)
                }
                _ => call.failed(what, &error),
            }
        })?;
        let command = answer
            .command
            .ok_or_else(|| Error::unexpected("SendCommand answered without a command"))?;
        Ok(sent(region, command))
    }

    /// How far a command is (ListCommands); `None` where there is none with this id, as it may seem
    /// for a moment after it was sent.
    ///
    /// # Errors
    /// A denial; no answer.
    pub async fn sent_command(&self, region: &str, id: &str) -> Result<Option<SentCommand>> {
        let aws = self.aws().await?;
        aws.credentials().await?;
        let answer = aws
            .clients(region)
            .ssm
            .list_commands()
            .command_id(id)
            .send()
            .await;
        match answer {
            Ok(answer) => {
                let first = answer.commands.unwrap_or_default().into_iter().next();
                Ok(first.map(|command| sent(region, command)))
            }
            Err(error) if is_unknown(&error) => Ok(None),
            Err(error) => Err(aws
                .call("ssm:ListCommands", None, region)
                .failed(format!("cannot look after the command `{id}`"), &error)),
        }
    }

    /// The commands of the account in `region`, the newest first (ListCommands). The service keeps
    /// them for 30 days.
    ///
    /// # Errors
    /// A denial; no answer.
    pub async fn command_history(
        &self,
        region: &str,
        query: HistoryQuery,
    ) -> Result<Vec<SentCommand>> {
        let aws = self.aws().await?;
        aws.credentials().await?;
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let mut call = aws
                .clients(region)
                .ssm
                .list_commands()
                .max_results(PAGE)
                .set_next_token(token);
            if let Some(since) = query.since {
                // The service takes whole seconds in UTC.
                let since = since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                call = call.filters(filter(CommandFilterKey::InvokedAfter, &since)?);
            }
            let answer = call.send().await.map_err(|error| {
                aws.call("ssm:ListCommands", None, region)
                    .failed("cannot list the commands of Run Command", &error)
            })?;
            let commands = answer.commands.unwrap_or_default();
            found.extend(commands.into_iter().map(|command| sent(region, command)));
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() || found.len() >= query.limit {
                found.truncate(query.limit);
                return Ok(found);
            }
        }
    }

    /// A page of what a command does on its nodes, with the beginnings of its outputs
    /// (ListCommandInvocations): all of them, or those with a `status`. `token` is that of the page
    /// before.
    ///
    /// # Errors
    /// A denial; no answer.
    pub async fn invocation_page(
        &self,
        region: &str,
        id: &str,
        status: Option<&str>,
        token: Option<String>,
    ) -> Result<InvocationPage> {
        let aws = self.aws().await?;
        aws.credentials().await?;
        let mut call = aws
            .clients(region)
            .ssm
            .list_command_invocations()
            .command_id(id)
            .details(true)
            .max_results(PAGE)
            .set_next_token(token);
        if let Some(status) = status {
            call = call.filters(filter(CommandFilterKey::Status, status)?);
        }
        match call.send().await {
            Ok(answer) => Ok(InvocationPage {
                invocations: answer
                    .command_invocations
                    .unwrap_or_default()
                    .into_iter()
                    .map(invocation)
                    .collect(),
                next: answer.next_token.filter(|token| !token.is_empty()),
            }),
            Err(error) if is_unknown(&error) => Ok(InvocationPage::default()),
            Err(error) => Err(aws.call("ssm:ListCommandInvocations", None, region).failed(
                format!("cannot see what became of the command `{id}`"),
                &error,
            )),
        }
    }

    /// What a command wrote on one node, as far as the service keeps it (GetCommandInvocation);
    /// `None` where the node has no part in the command.
    ///
    /// # Errors
    /// A denial; no answer.
    pub async fn invocation_output(
        &self,
        region: &str,
        id: &str,
        instance_id: &str,
    ) -> Result<Option<InvocationOutput>> {
        Ok(self
            .single_invocation(region, id, instance_id)
            .await?
            .map(|(_, output)| output))
    }

    /// A command on one node, with what it wrote there (GetCommandInvocation): for whoever may not
    /// list invocations.
    ///
    /// # Errors
    /// A denial; no answer.
    pub async fn single_invocation(
        &self,
        region: &str,
        id: &str,
        instance_id: &str,
    ) -> Result<Option<(Invocation, InvocationOutput)>> {
        let aws = self.aws().await?;
        aws.credentials().await?;
        let answer = aws
            .clients(region)
            .ssm
            .get_command_invocation()
            .command_id(id)
            .instance_id(instance_id)
            .send()
            .await;
        match answer {
            Ok(answer) => {
                let time = |text: Option<String>| text.and_then(|text| text.parse().ok());
                let output = InvocationOutput {
                    stdout: answer.standard_output_content.unwrap_or_default(),
                    stderr: answer.standard_error_content.unwrap_or_default(),
                };
                let invocation = Invocation {
                    instance_id: instance_id.to_owned(),
                    instance_name: String::new(),
                    status: answer.status_details.unwrap_or_default(),
                    code: Some(answer.response_code),
                    started: time(answer.execution_start_date_time),
                    finished: time(answer.execution_end_date_time),
                    output: String::new(),
                    plugin: answer.plugin_name.unwrap_or_default(),
                };
                Ok(Some((invocation, output)))
            }
            Err(error) if is_unknown(&error) => Ok(None),
            Err(error) => Err(aws
                .call("ssm:GetCommandInvocation", None, region)
                .failed(format!("cannot get the output of `{instance_id}`"), &error)),
        }
    }

    /// The nodes among `ids` whose agent answers (DescribeInstanceInformation). A command that
    /// names one which the service does not manage is refused as a whole.
    ///
    /// # Errors
    /// A denial; no answer.
    pub async fn online_nodes(&self, region: &str, ids: &[String]) -> Result<BTreeSet<String>> {
        let mut online = BTreeSet::new();
        for some in ids.chunks(MOST_IDS) {
            let filters = vec![("InstanceIds".to_owned(), some.to_vec())];
            for (id, ping) in self.nodes_with(region, filters).await? {
                if ping == PingStatus::Online {
                    online.insert(id);
                }
            }
        }
        Ok(online)
    }

    /// The nodes with these tags whose agent does not answer (DescribeInstanceInformation): a
    /// command for the tags means them too, and would reach them once they are back.
    ///
    /// # Errors
    /// A denial; no answer.
    pub async fn lost_nodes(
        &self,
        region: &str,
        tags: &[(String, Vec<String>)],
    ) -> Result<BTreeSet<String>> {
        let mut filters: Vec<(String, Vec<String>)> = tags
            .iter()
            .map(|(key, values)| (format!("tag:{key}"), values.clone()))
            .collect();
        let lost = PingStatus::ConnectionLost.as_str().to_owned();
        filters.push(("PingStatus".to_owned(), vec![lost]));
        let found = self.nodes_with(region, filters).await?;
        Ok(found.into_iter().map(|(id, _)| id).collect())
    }

    async fn nodes_with(
        &self,
        region: &str,
        filters: Vec<(String, Vec<String>)>,
    ) -> Result<Vec<(String, PingStatus)>> {
        let aws = self.aws().await?;
        aws.credentials().await?;
        let filters = filters.into_iter().map(|(key, values)| {
            InstanceInformationStringFilter::builder()
                .key(key)
                .set_values(Some(values))
                .build()
                .map_err(Error::unforeseen)
        });
        let filters: Vec<_> = filters.collect::<Result<_>>()?;
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let answer = aws
                .clients(region)
                .ssm
                .describe_instance_information()
                .set_filters(Some(filters.clone()))
                .max_results(PAGE)
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| {
                    aws.call("ssm:DescribeInstanceInformation", None, region)
                        .failed("cannot see which agents answer", &error)
                })?;
            for node in answer.instance_information_list.unwrap_or_default() {
                if let (Some(id), Some(ping)) = (node.instance_id, node.ping_status) {
                    found.push((id, ping));
                }
            }
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// Cancels a command (CancelCommand) on these nodes, of which there may be [`MOST_IDS`], or on
    /// all where none is named. What runs is killed by its agent, which takes a moment.
    ///
    /// # Errors
    /// A denial; no such command.
    pub async fn cancel_command(
        &self,
        region: &str,
        id: &str,
        instance_ids: &[String],
    ) -> Result<()> {
        let aws = self.aws().await?;
        aws.credentials().await?;
        aws.clients(region)
            .ssm
            .cancel_command()
            .command_id(id)
            .set_instance_ids((!instance_ids.is_empty()).then(|| instance_ids.to_vec()))
            .send()
            .await
            .map(drop)
            .map_err(|error| {
                let what = format!("the command `{id}` could not be cancelled");
                if is_unknown(&error) {
                    return Error::new(ErrorKind::NotFound, what)
                        .caused_by(format!("there is no such command in region `{region}`"))
                        .hint(hint!("see what there is: ops runs --region {}", region));
                }
                aws.call("ssm:CancelCommand", None, region)
                    .failed(what, &error)
            })
    }
}

/// Whether the service knows no such command, or no such node in it.
fn is_unknown<E>(
    error: &aws_sdk_ssm::error::SdkError<
        E,
        aws_smithy_runtime_api::client::orchestrator::HttpResponse,
    >,
) -> bool
where
    E: ProvideErrorMetadata,
{
    matches!(
        code_of(error),
        Some("InvalidCommandId" | "InvocationDoesNotExist")
    )
}

fn filter(key: CommandFilterKey, value: &str) -> Result<CommandFilter> {
    CommandFilter::builder()
        .key(key)
        .value(value)
        .build()
        .map_err(Error::unforeseen)
}

fn sent(region: &str, command: Command) -> SentCommand {
    let count = |number: i32| usize::try_from(number).unwrap_or_default();
    let named = |text: Option<String>| text.filter(|text| !text.is_empty());
    let logs = command.cloud_watch_output_config;
    let logs = logs.filter(|logs| logs.cloud_watch_output_enabled);
    SentCommand {
        id: command.command_id.unwrap_or_default(),
        region: region.to_owned(),
        document: command.document_name.unwrap_or_default(),
        comment: command.comment.unwrap_or_default(),
        requested: command.requested_date_time.and_then(time),
        status: command
            .status_details
            .or_else(|| command.status.map(|status| status.as_str().to_owned()))
            .unwrap_or_default(),
        targets: count(command.target_count),
        completed: count(command.completed_count),
        errors: count(command.error_count),
        delivery_timed_out: count(command.delivery_timed_out_count),
        instance_ids: command.instance_ids.unwrap_or_default(),
        outputs: OutputPlaces {
            bucket: named(command.output_s3_bucket_name),
            key_prefix: command.output_s3_key_prefix.unwrap_or_default(),
            log_group: named(logs.and_then(|logs| logs.cloud_watch_log_group_name)),
        },
    }
}

fn invocation(invocation: CommandInvocation) -> Invocation {
    // A document of several steps has several plugins: what they wrote stands one after the other.
    let plugins = invocation.command_plugins.unwrap_or_default();
    let code = plugins
        .iter()
        .map(|plugin| plugin.response_code)
        .find(|code| *code != 0)
        .or_else(|| (!plugins.is_empty()).then_some(0));
    let output: Vec<&str> = plugins
        .iter()
        .filter_map(|plugin| plugin.output())
        .collect();
    Invocation {
        instance_id: invocation.instance_id.unwrap_or_default(),
        instance_name: invocation.instance_name.unwrap_or_default(),
        status: invocation
            .status_details
            .or_else(|| invocation.status.map(|status| status.as_str().to_owned()))
            .unwrap_or_default(),
        code,
        started: plugins
            .iter()
            .find_map(|plugin| plugin.response_start_date_time)
            .and_then(time),
        finished: plugins
            .iter()
            .rev()
            .find_map(|plugin| plugin.response_finish_date_time)
            .and_then(time),
        output: output.concat(),
        plugin: plugins
            .first()
            .and_then(|plugin| plugin.name.clone())
            .unwrap_or_default(),
    }
}

fn time(at: DateTime) -> Option<Timestamp> {
    Timestamp::from_millisecond(at.to_millis().ok()?).ok()
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_with_and_without_blanks() {
        for over in [
            "Success",
            "Delivery Timed Out",
            "ExecutionTimedOut",
            "Terminated",
        ] {
            assert!(is_terminal(over), "{over}");
        }
        for on in [
            "Pending",
            "In Progress",
            "InProgress",
            "Delayed",
            "Cancelling",
        ] {
            assert!(!is_terminal(on), "{on}");
        }
    }
}
