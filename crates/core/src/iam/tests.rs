//! Tests of its parent.

use super::*;

#[test]
fn the_policy_names_the_documents_that_sessions_are_opened_with() {
    use ops_session::documents as d;
    let open = POLICY.iter().find(|s| s.id == "OpenSessions").unwrap();
    let named: Vec<&str> = open
        .resources
        .iter()
        .filter_map(|arn| Some(arn.split_once(":document/")?.1))
        .collect();
    let documents = [
        d::SHELL,
        d::INTERACTIVE_COMMAND,
        d::NON_INTERACTIVE_COMMAND,
        d::SSH,
        d::PORT_FORWARDING,
        d::PORT_FORWARDING_TO_REMOTE_HOST,
    ];
    assert_eq!(named, documents);
}

#[test]
fn every_call_of_a_verb_is_allowed_by_the_policy() {
    for calls in CALLS {
        let sometimes = calls.sometimes.iter().map(|(action, _)| action);
        for action in calls.always.iter().chain(sometimes) {
            // The bucket's statement is its owner's matter, and printed with its name.
            let is_allowed = Statement::of(action).is_some()
                || action.starts_with("s3:")
                // It needs no permission.
                || *action == "sts:GetCallerIdentity";
            assert!(is_allowed, "{}: {action}", calls.verb);
        }
    }
}

/// The first document in JSON of a page.
fn json_of(page: &str) -> Value {
    let (_, rest) = page.split_once("```json\n").expect("a document");
    let (text, _) = rest.split_once("```").expect("its end");
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn the_pages_have_the_policy_of_the_code() {
    let policy = policy(Partition::of("eu-west-1"));
    for page in [
        include_str!("../../../../README.md"),
        include_str!("../../../../docs/iam.md"),
    ] {
        assert_eq!(json_of(page), policy);
    }
}

#[test]
fn the_page_tells_of_every_verb_what_the_code_does() {
    let page = include_str!("../../../../docs/iam.md");
    for calls in CALLS {
        let begin = format!("| `{}` |", calls.verb);
        let row = page.lines().find(|line| line.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("no row of `{}`", calls.verb));
        let cells: Vec<&str> = row.split('|').collect();
        for action in calls.always {
            assert!(cells[2].contains(&format!("`{action}`")), "{row}: {action}");
        }
        for (action, why) in calls.sometimes {
            let cell = format!("`{action}` ({why})");
            assert!(cells[3].contains(&cell), "{row}: {action}");
        }
        assert_eq!(cells[2].matches(':').count(), calls.always.len(), "{row}");
    }
}

#[test]
fn the_page_has_the_statement_of_doctor() {
    let page = include_str!("../../../../docs/iam.md");
    let (_, rest) = page
        .split_once("<!-- doctor -->\n```json\n")
        .expect("a document");
    let (text, _) = rest.split_once("```").expect("its end");
    let statement: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(statement, DIAGNOSIS.json(Partition::of("eu-west-1")));
}

fn sources(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// Every action that stands in the source of this crate as the name of a call.
#[test]
fn no_call_of_the_source_is_missing_in_the_table() {
    let mut found = Vec::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&folder, &mut found);
    let known: Vec<&str> = CALLS
        .iter()
        .flat_map(|calls| {
            let sometimes = calls.sometimes.iter().map(|(action, _)| *action);
            calls.always.iter().copied().chain(sometimes)
        })
        .chain(CREDENTIALS.iter().chain(SERVER_CALLS).copied())
        .chain(AGENT_CALLS.iter().copied())
        // Asked about, and never called: a way to sessions of some accounts, a condition.
        .chain(["ssm:StartAccessRequest", "ssm:SessionDocumentAccessCheck"])
        // The key of a target of SendCommand, which looks like an action.
        .chain(["resource-groups:Name"])
        .collect();
    let services = [
        "ec2",
        "ssm",
        "sts",
        "s3",
        "sso-oauth",
        "ssmmessages",
        "ec2-instance-connect",
        "kms",
        "iam",
        "logs",
        "resource-groups",
        "tag",
        "sso",
    ];
    let mut count = 0;
    for path in found {
        let text = std::fs::read_to_string(&path).expect("a source");
        // The words of the tests are no calls.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in text.split('"').skip(1).step_by(2) {
            let Some((service, operation)) = word.split_once(':') else {
                continue;
            };
            let is_operation = operation.starts_with(|c: char| c.is_ascii_uppercase())
                && operation.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if services.contains(&service) && is_operation {
                count += 1;
                assert!(known.contains(&word), "{}: {word}", path.display());
            }
        }
    }
    assert!(count > 20, "only {count} actions were found");
}

#[test]
fn own_sessions_are_told_by_their_tag() {
    let text = statement_text("ssm:ResumeSession", "cn-north-1").expect("a statement");
    assert!(text.contains("\"arn:aws-cn:ssm:*:*:session/*\""), "{text}");
    assert!(
        text.contains("\"ssm:resourceTag/aws:ssmmessages:session-id\":\"${aws:userid}*\""),
        "{text}"
    );
    assert!(!text.contains("session/${aws:userid}"), "{text}");
    let text = statement_text("ssmmessages:OpenDataChannel", "eu-west-1").expect("a statement");
    assert!(text.contains("\"Resource\":\"*\""), "{text}");
    assert_eq!(statement_text("ssm:PutParameter", "eu-west-1"), None);
}
