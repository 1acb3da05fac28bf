//! API calls.

use super::*;
use crate::{credentials::Identity, sigv4::presign};

#[tokio::test]
async fn instances_are_listed_by_tag_globs_and_states() {
    let fixture = Fixture::new().await;
    let answer = fixture
        .ec2("Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3AName&Filter.1.Value.1=web-%2A&Filter.2.Name=instance-state-name&Filter.2.Value.1=running")
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(
        answer.texts("instanceId"),
        [
            "i-0a1b2c3d4e5f60718",
            "i-0b2c3d4e5f6071829",
            "i-0c3d4e5f60718293a"
        ]
    );
    assert!(answer.head.contains("x-amzn-requestid"));
    let answer = fixture
        .ec2(
            "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=nonsense&Filter.1.Value.1=x",
        )
        .await;
    assert_eq!(answer.texts("Code"), ["InvalidParameterValue"]);
    let answer = fixture
        .ec2("Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-00000000000000001")
        .await;
    assert_eq!(answer.texts("Code"), ["InvalidInstanceID.NotFound"]);
}

#[tokio::test]
async fn a_large_fleet_comes_in_pages_without_gap_or_repetition() {
    let fixture = Fixture::with(|options| options.fleet_size = 2500).await;
    let mut ids = std::collections::HashSet::new();
    let mut token = String::new();
    let mut pages = 0;
    loop {
        let answer = fixture
            .ec2(&format!(
                "Action=DescribeInstances&Version=2016-11-15&MaxResults=1000{token}"
            ))
            .await;
        let page = answer.texts("instanceId");
        pages += 1;
        for id in page {
            assert!(ids.insert(id.to_owned()), "{id} twice");
        }
        match answer.texts("nextToken").first() {
            Some(next) => {
                let next = next.replace('+', "%2B").replace('=', "%3D");
                token = format!("&NextToken={next}");
            }
            None => break,
        }
    }
    // One of the fleet's machines is in another region, one no EC2 instance.
    assert_eq!((pages, ids.len()), (3, 2498));
}

#[tokio::test]
async fn managed_nodes_come_fifty_a_page_and_by_id() {
    let fixture = Fixture::with(|options| options.fleet_size = 120).await;
    let first = fixture
        .ssm_code("DescribeInstanceInformation", json!({"MaxResults": 50}))
        .await
        .unwrap();
    assert_eq!(
        first["InstanceInformationList"].as_array().unwrap().len(),
        50
    );
    assert!(first["NextToken"].is_string());
    let some = fixture
        .ssm_code(
            "DescribeInstanceInformation",
            json!({"Filters": [{"Key": "InstanceIds", "Values": ["i-060718293a4b5c6de", "mi-0a4b5c6d7e8f90123", "i-07182940a5b6c7d8e"]}]}),
        )
        .await
        .unwrap();
    let list = some["InstanceInformationList"].as_array().unwrap();
    let seen: Vec<_> = list
        .iter()
        .map(|node| {
            (
                node["PingStatus"].as_str().unwrap(),
                node["ResourceType"].as_str().unwrap(),
            )
        })
        .collect();
    // The third has no agent.
    assert_eq!(
        seen,
        [
            ("ConnectionLost", "EC2Instance"),
            ("Online", "ManagedInstance")
        ]
    );
    assert_eq!(
        fixture
            .ssm_code("DescribeInstanceInformation", json!({"MaxResults": 51}))
            .await,
        Err("ValidationException".to_owned())
    );
}

#[tokio::test]
async fn the_tags_of_a_hybrid_node_are_listed_and_those_of_an_instance_are_not() {
    let fixture = Fixture::new().await;
    let ask = |id: &str| {
        fixture.ssm_code(
            "ListTagsForResource",
            json!({"ResourceType": "ManagedInstance", "ResourceId": id}),
        )
    };
    let tags = ask("mi-0a4b5c6d7e8f90123").await.unwrap();
    let list = tags["TagList"].as_array().unwrap();
    assert!(list.contains(&json!({"Key": "Role", "Value": "depot"})));
    assert_eq!(
        ask("i-060718293a4b5c6de").await,
        Err("InvalidResourceId".to_owned())
    );
}

#[tokio::test]
async fn nothing_is_answered_without_this_runs_keys() {
    let fixture = Fixture::new().await;
    let request = fixture
        .request("/")
        .header("x-amz-target", "AmazonSSM.StartSession")
        .body(b"{}".to_vec())
        .unwrap();
    let answer = fixture.send(request).await;
    assert_eq!(
        answer.json()["__type"],
        "MissingAuthenticationTokenException"
    );
    let mut key = fixture.key();
    key.secret_access_key.push('x');
    let form = "Action=GetCallerIdentity&Version=2011-06-15";
    let answer = fixture.query_as(&key, "sts", form).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.texts("Code"), ["SignatureDoesNotMatch"]);
    key.access_key_id = "AKIAIOSFODNN7EXAMPLE".to_owned();
    let answer = fixture
        .query_as(&key, "ec2", "Action=DescribeRegions")
        .await;
    assert_eq!(answer.texts("Code"), ["AuthFailure"]);
    let request = fixture
        .request("/_sandbox/faults")
        .body(b"drop=1%".to_vec())
        .unwrap();
    assert_eq!(fixture.send(request).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_role_with_mfa_wants_its_code() {
    let fixture = Fixture::new().await;
    let assume = |role: &str, rest: &str| {
        format!(
            "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::123456789012:role/{role}&RoleSessionName=tester{rest}"
        )
    };
    let serial = "&SerialNumber=arn:aws:iam::123456789012:mfa/me";
    for form in [
        assume("oncall", ""),
        assume("oncall", &format!("{serial}&TokenCode=654321")),
        assume("locked", ""),
    ] {
        let answer = fixture.sts(&form).await;
        assert_eq!(answer.texts("Code"), ["AccessDenied"], "{form}");
    }
    let answer = fixture
        .sts(&assume("oncall", &format!("{serial}&TokenCode=123456")))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let text = |name: &str| answer.texts(name)[0].to_owned();
    let key = Key {
        access_key_id: text("AccessKeyId"),
        secret_access_key: text("SecretAccessKey"),
        session_token: Some(text("SessionToken")),
        expires: None,
        identity: Identity {
            account: String::new(),
            arn: String::new(),
            user_id: String::new(),
            caller_name: String::new(),
        },
    };
    let form = "Action=GetCallerIdentity&Version=2011-06-15";
    let answer = fixture.query_as(&key, "sts", form).await;
    assert_eq!(
        answer.texts("Arn"),
        ["arn:aws:sts::123456789012:assumed-role/oncall/tester"]
    );
    fixture.admin("expire", &Value::Null).await;
    let answer = fixture.query_as(&key, "sts", form).await;
    assert_eq!(answer.texts("Code"), ["ExpiredToken"]);
}

#[tokio::test]
async fn sessions_that_cannot_be_are_refused_as_the_service_does() {
    let fixture = Fixture::new().await;
    let code = async |input: Value| fixture.ssm_code("StartSession", input).await.unwrap_err();
    let web = "i-0a1b2c3d4e5f60718";
    assert_eq!(
        code(json!({"Target": "i-0d4e5f60718293a4b"})).await,
        "TargetNotConnected"
    );
    assert_eq!(
        code(json!({"Target": "i-060718293a4b5c6de"})).await,
        "TargetNotConnected"
    );
    assert_eq!(
        code(json!({"Target": web, "Reason": ""})).await,
        "ValidationException"
    );
    assert_eq!(
        code(json!({"Target": web, "DocumentName": "AWS-StartNothing"})).await,
        "InvalidDocument"
    );
    assert_eq!(
        code(json!({"Target": web, "DocumentName": "AWS-StartSSHSession", "Parameters": {"portNumber": "22"}})).await,
        "SerializationException"
    );
    assert_eq!(code(json!({})).await, "ValidationException");
    assert_eq!(
        fixture
            .ssm_code("ResumeSession", json!({"SessionId": "sandbox-none"}))
            .await,
        Err("DoesNotExistException".to_owned())
    );
}

#[tokio::test]
async fn ordered_failures_of_calls_happen_and_end() {
    let fixture = Fixture::new().await;
    let order = json!([
        "throttle=ec2:DescribeInstances/2",
        "deny=ssm:StartSession/AWS-StartSSHSession"
    ]);
    assert_eq!(fixture.admin("faults", &order).await.status, StatusCode::OK);
    let list = "Action=DescribeInstances&Version=2016-11-15";
    for _ in 0..2 {
        let answer = fixture.ec2(list).await;
        assert_eq!(answer.texts("Code"), ["RequestLimitExceeded"]);
    }
    assert_eq!(fixture.ec2(list).await.status, StatusCode::OK);
    let web = "i-0a1b2c3d4e5f60718";
    assert_eq!(
        fixture
            .ssm_code(
                "StartSession",
                json!({"Target": web, "DocumentName": "AWS-StartSSHSession"})
            )
            .await,
        Err("AccessDeniedException".to_owned())
    );
    fixture.start(json!({"Target": web})).await;
    let answer = fixture.admin("faults", &json!({"explode": 1})).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let log = fixture.sandbox.log();
    let codes: Vec<_> = log["calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| (call["action"].as_str().unwrap(), call["error"].as_str()))
        .collect();
    assert_eq!(
        codes,
        [
            ("DescribeInstances", Some("RequestLimitExceeded")),
            ("DescribeInstances", Some("RequestLimitExceeded")),
            ("DescribeInstances", None),
            ("StartSession", Some("AccessDeniedException")),
            ("StartSession", None),
        ]
    );
}

#[tokio::test]
async fn a_key_is_pushed_to_running_machines_only() {
    let fixture = Fixture::new().await;
    let push = async |id: &str, user: &str, key: &str| {
        let input = json!({"InstanceId": id, "InstanceOSUser": user, "SSHPublicKey": key});
        let answer = fixture
            .json_call(
                "ec2-instance-connect",
                "AWSEC2InstanceConnectService.SendSSHPublicKey",
                &input,
            )
            .await;
        let body = answer.json();
        body["__type"]
            .as_str()
            .map_or_else(|| body["Success"].to_string(), str::to_owned)
    };
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1Yl8l5mZf7S0m7qk0Y0m9u3m4mG1kqkqz1m3n0bq2V";
    let web = "i-0a1b2c3d4e5f60718";
    assert_eq!(push(web, "ec2-user", key).await, "true");
    let app = &fixture.sandbox.app;
    let state = app.states.of(&app.fleet.by_id(web).unwrap());
    assert_eq!(state.pushed_keys("ec2-user"), [key]);
    assert_eq!(
        push("i-0d4e5f60718293a4b", "ec2-user", key).await,
        "EC2InstanceStateInvalidException"
    );
    assert_eq!(
        push("i-00000000000000001", "ec2-user", key).await,
        "EC2InstanceNotFoundException"
    );
    assert_eq!(push(web, "-oops", key).await, "InvalidArgsException");
    assert_eq!(
        push(web, "ec2-user", "ssh-ed25519 no").await,
        "InvalidArgsException"
    );
}

#[tokio::test]
async fn a_machine_comes_up_late_when_told_to() {
    let fixture = Fixture::new().await;
    let boot = json!({"boot": {"running_after": "0s", "online_after": "1h"}});
    fixture.admin("instances/web-4", &boot).await;
    let states = fixture
        .ec2("Action=DescribeInstances&InstanceId.1=i-0d4e5f60718293a4b")
        .await;
    assert_eq!(states.texts("name"), ["running"]);
    let target = json!({"Target": "i-0d4e5f60718293a4b"});
    let status = fixture
        .ssm_code("GetConnectionStatus", target.clone())
        .await
        .unwrap();
    assert_eq!(status["Status"], "notconnected");
    let change = json!({"state": "running", "online": true});
    fixture.admin("instances/web-4", &change).await;
    let status = fixture
        .ssm_code("GetConnectionStatus", target)
        .await
        .unwrap();
    assert_eq!(status["Status"], "connected");
    let added = fixture
        .admin(
            "instances",
            &json!({"name": "fresh-1", "tags": {"Team": "web"}}),
        )
        .await;
    assert_eq!(added.status, StatusCode::OK, "{}", added.body);
    let found = fixture
        .ec2("Action=DescribeInstances&Filter.1.Name=tag:Name&Filter.1.Value.1=fresh-1")
        .await;
    assert_eq!(found.texts("instanceId").len(), 1);
}

#[tokio::test]
async fn the_access_file_leads_other_processes_here() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut state_dir = std::path::PathBuf::new();
    let fixture = Fixture::with(|options| {
        state_dir.clone_from(&options.state_dir);
        options.access_file = Some(crate::served_file(&options.state_dir));
    })
    .await;
    let file = crate::served_file(&state_dir);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let access = crate::discover(&state_dir).unwrap();
    assert_eq!(access.environment(), fixture.sandbox.environment());
    fixture.sandbox.stop().await;
    assert!(!file.exists());
    assert!(crate::discover(&state_dir).is_none());
}

#[tokio::test]
async fn objects_are_put_and_read_by_presigned_url() {
    let fixture = Fixture::new().await;
    let host = fixture.sandbox.address().to_string();
    let path = "/ops-sandbox-copies/a%20folder/data.bin";
    let url = |method: &http::Method, seconds| {
        presign(
            method,
            path,
            &host,
            &fixture.key(),
            seconds,
            Timestamp::now(),
        )
    };
    let ask = async |method: http::Method, url: &str, range: Option<&str>, body: &[u8]| {
        let mut request = http::Request::builder()
            .method(method)
            .uri(url)
            .header("host", &host);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        fixture.send(request.body(body.to_vec()).unwrap()).await
    };
    let (put, get) = (http::Method::PUT, http::Method::GET);
    let body = b"0123456789";
    let answer = ask(put.clone(), &url(&put, 60), None, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let answer = ask(get.clone(), &url(&get, 60), None, b"").await;
    assert_eq!(answer.body.as_bytes(), body);
    let answer = ask(get.clone(), &url(&get, 60), Some("bytes=2-4"), b"").await;
    assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.body, "234");
    assert!(
        answer.head.contains("content-range: bytes 2-4/10"),
        "{}",
        answer.head
    );
    // Signed for reading, used for writing; and one that is too old.
    let answer = ask(put.clone(), &url(&get, 60), None, body).await;
    assert_eq!(answer.texts("Code"), ["SignatureDoesNotMatch"]);
    let answer = ask(get.clone(), &url(&get, -1), None, b"").await;
    assert_eq!(answer.texts("Message"), ["Request has expired"]);
    let delete = http::Method::DELETE;
    let answer = ask(delete.clone(), &url(&delete, 60), None, b"").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let answer = ask(get.clone(), &url(&get, 60), None, b"").await;
    assert_eq!(answer.texts("Code"), ["NoSuchKey"]);
}

#[tokio::test]
async fn temporary_keys_sign_in_to_the_console_and_others_do_not() {
    let fixture = Fixture::new().await;
    let form = "Action=GetFederationToken&Version=2011-06-15&Name=tester";
    let answer = fixture.sts(form).await;
    let text = |name: &str| answer.texts(name)[0].to_owned();
    let ask = async |session: &Value| {
        let query: String = session
            .to_string()
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let request = http::Request::get(format!(
            "/federation?Action=getSigninToken&SessionDuration=3600&Session={query}"
        ))
        .header("host", "x")
        .body(Vec::new())
        .unwrap();
        fixture.send(request).await
    };
    let mut session = json!({
        "sessionId": text("AccessKeyId"),
        "sessionKey": text("SecretAccessKey"),
        "sessionToken": text("SessionToken"),
    });
    let answer = ask(&session).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let token = answer.json()["SigninToken"].as_str().unwrap().to_owned();
    let page = "https%3A%2F%2Feu-west-1.console.aws.amazon.com%2Fec2%2F";
    let login = |token: &str| {
        http::Request::get(format!(
            "/federation?Action=login&Issuer=ops&Destination={page}&SigninToken={token}"
        ))
        .header("host", "x")
        .body(Vec::new())
        .unwrap()
    };
    let answer = fixture.send(login(&token)).await;
    assert_eq!(answer.status, StatusCode::FOUND);
    assert!(
        answer.head.contains("location: https://eu-west-1.console"),
        "{}",
        answer.head
    );
    let answer = fixture.send(login("made-up")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    session["sessionKey"] = json!("wrong");
    assert_eq!(ask(&session).await.status, StatusCode::BAD_REQUEST);
    // No secret is in the log.
    let log = fixture.sandbox.log().to_string();
    assert!(log.contains("getSigninToken") && !log.contains(&token));
}

#[tokio::test]
async fn a_stopped_machine_is_started_and_stopped_again() {
    let fixture = Fixture::new().await;
    let web = "InstanceId.1=i-0d4e5f60718293a4b";
    let ask = async |action: &str| {
        let answer = fixture.ec2(&format!("Action={action}&{web}")).await;
        let names: Vec<String> = answer
            .texts("name")
            .into_iter()
            .map(str::to_owned)
            .collect();
        names
    };
    assert_eq!(ask("StartInstances").await, ["pending", "stopped"]);
    assert_eq!(ask("DescribeInstances").await, ["pending"]);
    fixture
        .admin("instances/web-4", &json!({"state": "running"}))
        .await;
    assert_eq!(ask("StopInstances").await, ["stopped", "running"]);
    fixture
        .admin("instances/web-4", &json!({"state": "terminated"}))
        .await;
    let answer = fixture.ec2(&format!("Action=StartInstances&{web}")).await;
    assert_eq!(answer.texts("Code"), ["IncorrectInstanceState"]);
    let nodes = fixture
        .ssm_code("DescribeInstanceInformation", json!({}))
        .await
        .unwrap();
    assert!(!nodes.to_string().contains("i-0d4e5f60718293a4b"));
}

#[tokio::test]
async fn the_account_has_a_name_of_its_own() {
    let fixture = Fixture::new().await;
    let key = fixture.key();
    let form = "Action=ListAccountAliases&Version=2010-05-08";
    let answer = fixture.query_as(&key, "iam", form).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.texts("member"), ["ops-sandbox"]);
    let answer = fixture
        .query_as(&key, "iam", "Action=DeleteUser&Version=2010-05-08")
        .await;
    assert_eq!(answer.texts("Code"), ["InvalidAction"]);
}

#[tokio::test]
async fn a_log_stream_is_read_page_by_page_until_its_token_stays() {
    let fixture = Fixture::new().await;
    let event = |message: &str| crate::log_groups::LogEvent {
        at: jiff::Timestamp::UNIX_EPOCH,
        message: message.to_owned(),
    };
    let events = ["one", "two", "three"].map(event).to_vec();
    let app = &fixture.sandbox.app;
    app.log_groups.put("/ops", "stream", events);
    let read = async |more: Value| {
        let mut input = json!({"logGroupName": "/ops", "logStreamName": "stream", "limit": 2});
        let (all, more) = (input.as_object_mut().unwrap(), more);
        all.extend(more.as_object().unwrap().clone());
        let answer = fixture
            .json_call("logs", "Logs_20140328.GetLogEvents", &input)
            .await;
        serde_json::from_str::<Value>(&answer.body).unwrap()
    };
    let messages = |page: &Value| -> Vec<String> {
        let events = page["events"].as_array().unwrap();
        let text = |event: &Value| event["message"].as_str().unwrap().to_owned();
        events.iter().map(text).collect()
    };
    let first = read(json!({"startFromHead": true})).await;
    assert_eq!(messages(&first), ["one", "two"]);
    let second = read(json!({"nextToken": first["nextForwardToken"]})).await;
    assert_eq!(messages(&second), ["three"]);
    let end = read(json!({"nextToken": second["nextForwardToken"]})).await;
    assert_eq!(end["events"], json!([]));
    assert_eq!(end["nextForwardToken"], second["nextForwardToken"]);
    // Without a word about the beginning, the end is read.
    assert_eq!(messages(&read(json!({})).await), ["two", "three"]);
    let gone = read(json!({"logStreamName": "other"})).await;
    assert_eq!(gone["__type"], "ResourceNotFoundException", "{gone}");
}
