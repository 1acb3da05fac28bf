//! Run Command: what is sent to whom, and what is told of it.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::run_command::{InvocationStatus, SentCommand};

const WEB_1: &str = "i-0a1b2c3d4e5f60718";
const WEB_4: &str = "i-0d4e5f60718293a4b";

impl Fixture {
    fn command(&self, sent: &Value) -> Arc<SentCommand> {
        let id = sent["Command"]["CommandId"].as_str().unwrap();
        let commands = &self.sandbox.app.run_commands;
        commands.find(self.region, id).unwrap()
    }

    async fn send_command(&self, input: Value) -> Arc<SentCommand> {
        let sent = self.ssm_code("SendCommand", input).await.unwrap();
        self.command(&sent)
    }

    /// A line of sh on web-1, to its end: what GetCommandInvocation tells of it.
    async fn on_web_1(&self, line: &str, more: Value) -> Value {
        let mut input = json!({
            "DocumentName": "AWS-RunShellScript",
            "InstanceIds": [WEB_1],
            "Parameters": { "commands": [line] },
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            input[name] = value.clone();
        }
        let command = self.send_command(input).await;
        command.until(|_| false).await;
        let asked = json!({ "CommandId": command.id, "InstanceId": WEB_1 });
        self.ssm_code("GetCommandInvocation", asked).await.unwrap()
    }

    async fn refusal(&self, change: Value) -> String {
        let mut input = json!({
            "DocumentName": "AWS-RunShellScript",
            "InstanceIds": [WEB_1],
            "Parameters": { "commands": ["true"] },
        });
        for (name, value) in change.as_object().into_iter().flatten() {
            input[name] = value.clone();
        }
        self.ssm_code("SendCommand", input).await.unwrap_err()
    }
}

#[tokio::test]
async fn streams_come_apart_and_the_agent_adds_why_a_script_failed() {
    let fixture = Fixture::new().await;
    let told = fixture
        .on_web_1("echo out; echo err >&2; exit 3", json!({}))
        .await;
    assert_eq!(told["Status"], "Failed");
    assert_eq!(told["ResponseCode"], 3);
    assert_eq!(told["StandardOutputContent"], "out\n");
    assert_eq!(
        told["StandardErrorContent"],
        "err\nfailed to run commands: exit status 3"
    );
    assert_eq!(told["PluginName"], "aws:runShellScript");
    let told = fixture
        .on_web_1("cd / && pwd; echo $AWS_SSM_INSTANCE_ID", json!({}))
        .await;
    assert_eq!(told["Status"], "Success");
    assert_eq!(told["StandardOutputContent"], format!("/\n{WEB_1}\n"));
    assert_eq!(told["StandardErrorContent"], "");
}

#[tokio::test]
async fn some_statuses_mean_something_else_to_the_agent() {
    let fixture = Fixture::new().await;
    let told = fixture.on_web_1("exit 137", json!({})).await;
    assert_eq!(told["StatusDetails"], "ExecutionTimedOut");
    let told = fixture
        .on_web_1("echo out; echo err >&2; exit 168", json!({}))
        .await;
    assert_eq!(told["Status"], "Success");
    assert_eq!(told["ResponseCode"], 168);
    assert_eq!(told["StandardErrorContent"], "");
    let told = fixture.on_web_1("exit 169", json!({})).await;
    assert_eq!(told["Status"], "Failed");
    assert!(
        told["StandardOutputContent"]
            .as_str()
            .unwrap()
            .contains("code 169")
    );
}

#[tokio::test]
async fn outputs_are_cut_and_whole_in_the_bucket() {
    let fixture = Fixture::new().await;
    let bucket = json!({ "OutputS3BucketName": "ops-sandbox-copies", "OutputS3KeyPrefix": "runs" });
    let line = "head -c 30000 /dev/zero | tr '\\0' x; head -c 9000 /dev/zero | tr '\\0' e >&2";
    let told = fixture.on_web_1(line, bucket).await;
    let (stdout, stderr) = (
        told["StandardOutputContent"].as_str().unwrap(),
        told["StandardErrorContent"].as_str().unwrap(),
    );
    assert_eq!(stdout.len(), 24_000);
    assert!(stdout.ends_with("x--output truncated--"));
    assert_eq!(stderr.len(), 8_000);
    let asked = json!({ "CommandId": told["CommandId"], "Details": true });
    let listed = fixture
        .ssm_code("ListCommandInvocations", asked)
        .await
        .unwrap();
    let plugin = &listed["CommandInvocations"][0]["CommandPlugins"][0];
    assert!(plugin["Output"].as_str().unwrap().len() <= 2_500);
    let id = told["CommandId"].as_str().unwrap();
    let key = format!("runs/{id}/{WEB_1}/awsrunShellScript/0.awsrunShellScript/stdout");
    assert!(told["StandardOutputUrl"].as_str().unwrap().ends_with(&key));
    let path = crate::s3::object_path(&fixture.sandbox.app.objects, "ops-sandbox-copies", &key);
    assert_eq!(std::fs::metadata(path).unwrap().len(), 30_000);
}

#[tokio::test]
async fn a_tag_means_every_managed_node_that_has_it() {
    let fixture = Fixture::new().await;
    let input = json!({
        "DocumentName": "AWS-RunShellScript",
        "Targets": [{ "Key": "tag:Role", "Values": ["web"] }],
        "Parameters": { "commands": ["echo hello"] },
        "MaxErrors": "100%",
    });
    let sent = fixture.ssm_code("SendCommand", input).await.unwrap();
    assert_eq!(sent["Command"]["TargetCount"], 0);
    let command = fixture.command(&sent);
    // The one that is stopped would get it if it came back in time.
    command
        .until(|all| {
            let of = |status| all.iter().filter(|one| one.status == status).count();
            of(InvocationStatus::Success) == 3 && of(InvocationStatus::Delayed) == 1
        })
        .await;
    let asked =
        json!({ "CommandId": command.id, "Filters": [{ "key": "Status", "value": "Delayed" }] });
    let delayed = fixture
        .ssm_code("ListCommandInvocations", asked)
        .await
        .unwrap();
    assert_eq!(delayed["CommandInvocations"][0]["InstanceId"], WEB_4);
    let cancel = json!({ "CommandId": command.id, "InstanceIds": [WEB_4] });
    fixture.ssm_code("CancelCommand", cancel).await.unwrap();
    let asked = json!({ "CommandId": command.id });
    let told = fixture.ssm_code("ListCommands", asked).await.unwrap();
    let told = &told["Commands"][0];
    assert_eq!(told["TargetCount"], 4);
    assert_eq!(told["CompletedCount"], 4);
    assert_eq!(told["StatusDetails"], "Incomplete");
}

#[tokio::test]
async fn the_error_after_those_that_are_borne_stops_what_has_not_begun() {
    let fixture = Fixture::with(|options| {
        options.fleet_size = 60;
        options.faults = "run-fail=100%".parse().unwrap();
    })
    .await;
    // A machine that is away would be waited for.
    let fleet = &fixture.sandbox.app.fleet;
    let online = (0..60).filter_map(|index| fleet.at(index));
    let online = online.filter(|one| one.is_connected() && fleet.is_made_up(&one.id));
    let ids: Vec<String> = online.map(|one| one.id.clone()).take(20).collect();
    for (most, failed) in [("0", 1), ("3", 4), ("25%", 6), ("100%", 20)] {
        let input = json!({
            "DocumentName": "AWS-RunShellScript",
            "InstanceIds": ids,
            "Parameters": { "commands": ["true"] },
            "MaxConcurrency": "1",
            "MaxErrors": most,
        });
        let command = fixture.send_command(input).await;
        command.until(|_| false).await;
        let counts = command.counts();
        assert_eq!(counts.errors, failed, "MaxErrors {most}");
        let details = if failed == 20 { "Incomplete" } else { "Failed" };
        assert_eq!(command.status(), ("Failed", details));
        let terminated = command.look(|all| {
            let of = all
                .iter()
                .filter(|one| one.status == InvocationStatus::Terminated);
            of.count()
        });
        assert_eq!(terminated, counts.targets - failed);
    }
}

#[tokio::test]
async fn a_cancelled_command_is_stopped_with_all_its_processes() {
    let fixture = Fixture::new().await;
    let input = json!({
        "DocumentName": "AWS-RunShellScript",
        "InstanceIds": [WEB_1],
        "Parameters": { "commands": ["sleep 1000 & echo $! > $HOME/child; wait"] },
    });
    let command = fixture.send_command(input).await;
    let home = {
        let app = &fixture.sandbox.app;
        let web_1 = app.fleet.by_id(WEB_1).unwrap();
        app.states.of(&web_1).home().unwrap()
    };
    let child: i32 = loop {
        let text = std::fs::read_to_string(home.join("child")).unwrap_or_default();
        if let Ok(child) = text.trim().parse() {
            break child;
        }
        tokio::task::yield_now().await;
    };
    let asked = json!({ "CommandId": command.id });
    fixture.ssm_code("CancelCommand", asked).await.unwrap();
    command.until(|_| false).await;
    assert_eq!(command.status(), ("Cancelled", "Cancelled"));
    let child = rustix::process::Pid::from_raw(child).unwrap();
    // Killed; whoever collects it may not have come yet.
    while std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_pid()))
        .is_ok_and(|stat| !stat.contains(") Z"))
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_execution_that_takes_too_long_is_stopped_with_what_it_wrote() {
    use crate::agent::run_command::{Language, Script, Verdict, run};
    let fixture = Fixture::new().await;
    let app = &fixture.sandbox.app;
    let web_1 = app.fleet.by_id(WEB_1).unwrap();
    let script = Script {
        command_id: "x".to_owned(),
        lines: vec!["echo begun; sleep 1000".to_owned()],
        working_directory: String::new(),
        execution_timeout: Duration::from_millis(300),
        language: Language::Shell,
    };
    let state = app.states.of(&web_1);
    let cancel = tokio_util::sync::CancellationToken::new();
    let mut ran = run(&script, &web_1, &state, &cancel).await.unwrap();
    assert_eq!((ran.verdict, ran.code), (Verdict::TimedOut, 137));
    assert_eq!(ran.stdout.report().unwrap(), "begun\n");
    assert_eq!(ran.stderr.report().unwrap(), "");
}

#[tokio::test]
async fn what_the_service_refuses() {
    let fixture = Fixture::new().await;
    let ids: Vec<String> = (0..51).map(|number| format!("i-{number:017x}")).collect();
    let target = json!({ "Key": "tag:A", "Values": ["b"] });
    for (change, code) in [
        (json!({ "InstanceIds": ids }), "ValidationException"),
        (
            json!({ "InstanceIds": [WEB_1, WEB_1] }),
            "DuplicateInstanceId",
        ),
        (
            json!({ "InstanceIds": ["i-07182940a5b6c7d8e"] }),
            "InvalidInstanceId",
        ),
        (
            json!({ "InstanceIds": [], "Targets": vec![target; 6] }),
            "ValidationException",
        ),
        (json!({ "TimeoutSeconds": 29 }), "ValidationException"),
        (json!({ "Comment": "x".repeat(101) }), "ValidationException"),
        (json!({ "MaxConcurrency": "0" }), "ValidationException"),
        (json!({ "MaxErrors": "101%" }), "ValidationException"),
        (json!({ "DocumentName": "No-Such" }), "InvalidDocument"),
        (
            json!({ "OutputS3BucketName": "no-such" }),
            "InvalidOutputFolder",
        ),
        (json!({ "Parameters": {} }), "InvalidParameters"),
        (
            json!({ "Parameters": { "commands": ["echo {{ ssm:password }}"] } }),
            "InvalidParameters",
        ),
        (
            json!({ "Parameters": { "commands": ["true"], "executionTimeout": ["172801"] } }),
            "InvalidParameters",
        ),
        (
            json!({ "Parameters": { "commands": ["x".repeat(64 << 10)] } }),
            "MaxDocumentSizeExceeded",
        ),
    ] {
        assert_eq!(fixture.refusal(change.clone()).await, code, "{change}");
    }
    let unknown = json!({ "CommandId": "0".repeat(36), "InstanceId": WEB_1 });
    let refused = fixture.ssm_code("GetCommandInvocation", unknown).await;
    assert_eq!(refused.unwrap_err(), "InvocationDoesNotExist");
}

#[tokio::test]
async fn invocations_come_fifty_a_page_and_by_status() {
    let fixture = Fixture::with(|options| {
        options.fleet_size = 200;
        options.faults = "run-fail=30%".parse().unwrap();
    })
    .await;
    let input = json!({
        "DocumentName": "AWS-RunShellScript",
        "Targets": [{ "Key": "tag:Env", "Values": ["staging", "production", "development"] }],
        "Parameters": { "commands": ["echo hello"] },
        "MaxErrors": "100%",
        "MaxConcurrency": "100%",
    });
    let command = fixture.send_command(input).await;
    command
        .until(|all| {
            !all.is_empty()
                && all
                    .iter()
                    .all(|one| one.status.is_terminal() || one.status == InvocationStatus::Delayed)
        })
        .await;
    let counts = command.counts();
    let mut ids = std::collections::BTreeSet::new();
    let mut token = Value::Null;
    let mut pages = 0;
    loop {
        let asked = json!({ "CommandId": command.id, "Details": true, "NextToken": token });
        let page = fixture
            .ssm_code("ListCommandInvocations", asked)
            .await
            .unwrap();
        pages += 1;
        for one in page["CommandInvocations"].as_array().unwrap() {
            assert!(ids.insert(one["InstanceId"].as_str().unwrap().to_owned()));
        }
        token = page["NextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert_eq!(
        (pages, ids.len()),
        (counts.targets.div_ceil(50), counts.targets)
    );
    let asked =
        json!({ "CommandId": command.id, "Filters": [{ "key": "Status", "value": "Failed" }] });
    let failed = fixture
        .ssm_code("ListCommandInvocations", asked)
        .await
        .unwrap();
    let listed = failed["CommandInvocations"].as_array().unwrap().len();
    assert_eq!(listed, counts.errors.min(50));
    assert!(counts.errors > 20, "{counts:?}");
}

#[tokio::test]
async fn a_document_of_the_fleet_takes_its_own_parameters() {
    let fixture = Fixture::new().await;
    let own = json!({
        "DocumentName": "Sandbox-Greet",
        "Parameters": { "Greeting": ["good morning"] },
    });
    let told = fixture.on_web_1("", own).await;
    assert!(
        told["StandardOutputContent"]
            .as_str()
            .unwrap()
            .starts_with("good morning, ")
    );
}
