//! Lists of sessions, and their ends.

use ops_tests::{service::Service, terminal::Terminal};

use crate::{OPS, ops};

const WEB_1: &str = "i-0a1b2c3d4e5f60718";

/// A shell that is open on a server.
fn open(service: &Service, target: &str) -> Terminal {
    let shell = Terminal::start(service, &["shell", target, "--reason", "INC-4711"]);
    shell.ask("echo up:$((40+2))", "up:42");
    shell
}

/// Ids of the open sessions on `target`.
fn ids(service: &Service, target: &str) -> Vec<String> {
    let done = ops(service, &["sessions", target, "-o", "name"]).succeeds();
    done.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn open_sessions_are_listed_with_their_servers_owners_and_reasons() {
    let service = Service::start(OPS, "");
    let mut shell = open(&service, "web-1");
    let done = ops(&service, &["sessions", "-o", "json"]).succeeds();
    let list = done.json();
    let item = &list["items"][0];
    assert_eq!(list["kind"], "SessionList");
    assert_eq!(list["items"].as_array().expect("a list").len(), 1);
    for (field, value) in [
        ("target", WEB_1),
        ("name", "web-1"),
        ("region", "eu-west-1"),
        ("owner", "sandbox"),
        ("status", "Connected"),
        ("document", "SSM-SessionManagerRunShell"),
        ("reason", "INC-4711"),
    ] {
        assert_eq!(item[field], value, "{list:#}");
    }
    assert!(item["ended"].is_null() && item["started"].is_string());
    let table = ops(&service, &["sessions"]).succeeds().stdout;
    let id = item["id"].as_str().expect("an id");
    for word in ["STARTED", "AGE", id, "web-1", "Connected", "INC-4711"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    // Every way to narrow the list, with whether the session is in it.
    for (args, is_in) in [
        (&["web-1"][..], true),
        (&["web-*"], true),
        (&["tag:Team=web", "db-1"], true),
        (&[WEB_1], true),
        (&["db-1"], false),
        (&["--mine"], true),
        (&["--owner", "sandbox"], true),
        (&["--owner", "alice"], false),
        (&["--owner", "arn:aws:iam::123456789012:user/alice"], false),
        (&["--since", "2d"], true),
        (&["--status", "connected"], true),
        (&["--status", "disconnected"], false),
        (&["--document", "SSM-SessionManagerRunShell"], true),
        (&["--document", "AWS-StartSSHSession"], false),
        (&["--history"], false),
    ] {
        let args = [&["sessions", "-o", "name"], args].concat();
        let done = ops(&service, &args).succeeds();
        assert_eq!(done.stdout.contains(id), is_in, "{args:?}: {}", done.stderr);
    }
    let wide = ops(&service, &["sessions", "-o", "wide"]).succeeds().stdout;
    for word in [
        "DOCUMENT",
        "SSM-SessionManagerRunShell",
        "TARGET",
        "INC-4711",
        WEB_1,
    ] {
        assert!(wide.contains(word), "{word}: {wide}");
    }
    let path = ["sessions", "-o", "jsonpath={.items[*].owner}"];
    assert_eq!(ops(&service, &path).succeeds().stdout, "sandbox\n");
    let csv = ops(&service, &["sessions", "-o", "csv"]).succeeds().stdout;
    assert!(csv.starts_with("ID,TARGET,OWNER,STARTED,"), "{csv}");
    ops(&service, &["sessions", "no-such-server"]).fails(3, &["no-such-server"]);
    shell.send("exit\r");
    shell.wait();
    // What has ended is history, under the same id.
    let past = ops(&service, &["sessions", "web-1", "--history", "-o", "json"]).succeeds();
    let past = past.json();
    assert_eq!(past["items"][0]["id"], id);
    assert_eq!(past["items"][0]["status"], "Terminated");
    assert!(past["items"][0]["ended"].is_string(), "{past:#}");
}

#[test]
fn a_session_is_ended_by_who_confirms_it() {
    let service = Service::start(OPS, "");
    let mut shell = open(&service, "web-1");
    let id = ids(&service, "web-1").pop().expect("an id");
    // Nobody to ask: it is shown, and goes on.
    let done = ops(&service, &["sessions", "end", &id]);
    let done = done.fails(9, &[&id, "sandbox on web-1", "--yes"]);
    assert_eq!(done.stdout, "");
    let mut asked = Terminal::start(&service, &["sessions", "end", "web-1"]);
    asked.wait_for("End this session? [y/N] ");
    asked.send("\r");
    asked.wait_for("nothing was typed");
    assert_eq!(asked.wait(), Some(9));
    assert_eq!(ids(&service, "web-1"), std::slice::from_ref(&id));
    let mut asked = Terminal::start(&service, &["sessions", "end", "--mine"]);
    asked.wait_for("End this session? [y/N] ");
    asked.send("y\r");
    asked.wait_for("ended");
    assert_eq!(asked.wait(), Some(0));
    // The shell is over for who has it open.
    assert_ne!(shell.wait(), None);
    assert!(ids(&service, "web-1").is_empty());
    ops(&service, &["sessions", "end", &id, "--yes"]).fails(3, &[&id, "ops sessions"]);
    let done = ops(
        &service,
        &["sessions", "end", "--older-than", "2h", "--yes"],
    )
    .succeeds();
    assert!(done.stderr.contains("no session to end"), "{}", done.stderr);
}

#[test]
fn of_several_sessions_each_has_its_result() {
    let service = Service::start(OPS, "");
    let _shells = [open(&service, "web-1"), open(&service, "web-2")];
    let (one, two) = (
        ids(&service, "web-1").remove(0),
        ids(&service, "web-2").remove(0),
    );
    service.set_faults(&format!("deny=ssm:TerminateSession/{one}"));
    let end = ["sessions", "end", "web-*", "--yes", "-o", "json"];
    let done = ops(&service, &end).fails(8, &["1 of 2 sessions were not ended", &one]);
    let list = done.json();
    for item in list["items"].as_array().expect("a list") {
        let (result, has_error) = if item["id"] == one.as_str() {
            ("failed", true)
        } else {
            ("ended", false)
        };
        assert_eq!(item["result"], result, "{list:#}");
        assert_eq!(item["error"].is_object(), has_error, "{list:#}");
    }
    assert!(ids(&service, "web-2").is_empty(), "{two}");
    // Who may end sessions and list none can do so by their ids.
    service.set_faults("deny=ssm:DescribeSessions");
    ops(&service, &["sessions"]).fails(5, &["ssm:DescribeSessions", "ListSessions"]);
    ops(&service, &["sessions", "end", "web-1", "--yes"]).fails(5, &["ssm:DescribeSessions"]);
    let done = ops(&service, &["sessions", "end", &one, "--yes"]).succeeds();
    assert!(done.stdout.contains("ended"), "{}", done.stdout);
}
