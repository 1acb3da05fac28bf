//! The JSON bodies: what is written is read again, and what Go programs may write is read too.

use ops_session::handshake::{
    Action, ActionStatus, Complete, KeyAnswer, OfferedKey, ProcessedAction, Ready, Request,
    Response, SessionType,
};
use ops_session::wire::{
    ChannelClosed, Flag, OpenDataChannel, exit_code_payload, parse_exit_code, parse_size,
    size_payload,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::kms::data_key;

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (any::<String>(), any::<Option<String>>()).prop_map(|(name, host)| Action::SessionType {
            name,
            properties: host.map_or(
                Value::Null,
                |host| json!({"host": host, "portNumber": "80"})
            ),
        }),
        (any::<String>(), "[A-Za-z0-9+/]{1,24}").prop_map(|(key_id, challenge)| {
            Action::KmsEncryption {
                key_id,
                challenge: Some(challenge),
            }
        }),
        "New[A-Za-z]{0,10}".prop_map(|name| Action::Unknown { name }),
    ]
}

fn any_processed() -> impl Strategy<Value = ProcessedAction> {
    (any::<String>(), 0i64..6, any::<String>()).prop_map(|(action_type, status, error)| {
        ProcessedAction {
            action_type,
            action_status: match status {
                1 => ActionStatus::Success,
                2 => ActionStatus::Failed,
                3 => ActionStatus::Unsupported,
                n => ActionStatus::Other(n),
            },
            action_result: Value::Null,
            error,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_survives(agent_version in any::<String>(), actions in proptest::collection::vec(any_action(), 0..5)) {
        let request = Request { agent_version, actions };
        prop_assert_eq!(Request::parse(&request.payload()), Some(request));
    }

    #[test]
    fn a_response_survives(
        client_version in any::<String>(),
        processed_client_actions in proptest::collection::vec(any_processed(), 0..5),
        errors in any::<Option<Vec<String>>>(),
    ) {
        let response = Response { client_version, processed_client_actions, errors };
        prop_assert_eq!(Response::parse(&response.payload()), Some(response));
    }

    #[test]
    fn an_answer_has_one_element_for_each_action_in_its_order(actions in proptest::collection::vec(any_action(), 0..6)) {
        let names: Vec<String> = actions.iter().map(|a| a.name().to_owned()).collect();
        let request = Request { agent_version: String::new(), actions };
        let key = data_key();
        let answer = Response::answer(&request, "1.2.764.0", KeyAnswer::Given(&key));
        let answered: Vec<String> = answer.processed_client_actions.iter().map(|a| a.action_type.clone()).collect();
        prop_assert_eq!(answered, names);
        let all_well = answer.processed_client_actions.iter().all(|a| a.action_status == ActionStatus::Success);
        prop_assert_eq!(answer.errors.is_none(), all_well);
    }

    #[test]
    fn the_small_bodies_survive(ns in any::<i64>(), text in any::<String>(), code in any::<i32>(), n in any::<u32>(),
                                cols in 1u32.., rows in 1u32..) {
        let complete = Complete { time_to_complete_ns: ns, customer_message: text.clone() };
        prop_assert_eq!(Complete::parse(&complete.payload()), complete);
        let closed = ChannelClosed { output: text.clone(), session_id: text.clone(), schema_version: 1, ..ChannelClosed::default() };
        prop_assert_eq!(ChannelClosed::parse(&closed.payload()), closed);
        prop_assert_eq!(parse_exit_code(&exit_code_payload(code)), Some(code));
        prop_assert_eq!(parse_size(&size_payload(cols, rows)), Some((cols, rows)));
        prop_assert_eq!(Flag::parse(&Flag::from(n).payload()), Some(Flag::from(n)));
        let open = OpenDataChannel {
            message_schema_version: "1.0".into(),
            request_id: "r".into(),
            token_value: text.as_str().into(),
            client_id: "c".into(),
            client_version: "1.2.764.0".into(),
        };
        let json = open.to_json();
        prop_assert_eq!(OpenDataChannel::from_json(&json).unwrap().token_value, text);
    }
}

#[test]
fn keys_of_any_case_and_null_for_anything_are_read() {
    let request = br#"{"agentversion":"3.3.0.0","REQUESTEDCLIENTACTIONS":[
        {"actionType":"SessionType","actionParameters":{"sessionType":"Port","properties":null,"new":1}},
        {"ActionType":"KMSEncryption","ActionParameters":null}],"Later":{}}"#;
    let request = Request::parse(request).unwrap();
    assert_eq!(request.agent_version, "3.3.0.0");
    assert_eq!(
        request.actions,
        [
            Action::SessionType {
                name: "Port".to_owned(),
                properties: Value::Null
            },
            Action::KmsEncryption {
                key_id: String::new(),
                challenge: None
            }
        ]
    );
    let empty = Request::parse(br#"{"AgentVersion":null,"RequestedClientActions":null}"#).unwrap();
    assert_eq!((empty.agent_version.as_str(), empty.actions.len()), ("", 0));
    let response = br#"{"ClientVersion":null,"ProcessedClientActions":null,"Errors":null}"#;
    assert_eq!(Response::parse(response).unwrap().errors, None);
    assert_eq!(
        Complete::parse(br#"{"CustomerMessage":null}"#),
        Complete::default()
    );
}

#[test]
fn a_data_key_is_read_as_it_is_written_and_nothing_else_is_one() {
    let offered = |result: Value| OfferedKey::parse(&result);
    let blob = &b"\x01\x02"[..];
    for (result, has_challenge) in [
        (
            json!({"KMSCipherTextKey": "AQI=", "KMSCipherTextHash": null}),
            false,
        ),
        (
            json!({"kmsciphertextkey": "AQI=", "challengeacknowledgement": true}),
            true,
        ),
    ] {
        let expected = OfferedKey {
            ciphertext_blob: blob.into(),
            has_challenge,
        };
        assert_eq!(offered(result), Some(expected));
    }
    for result in [
        json!(null),
        json!({"KMSCipherTextKey": null}),
        json!({"KMSCipherTextKey": ""}),
        json!({"KMSCipherTextKey": "AQI"}),
        json!({"KMSCipherTextKey": [1, 2]}),
    ] {
        assert_eq!(offered(result.clone()), None, "{result}");
    }
}

#[test]
fn a_close_without_json_is_the_text_itself() {
    assert_eq!(ChannelClosed::parse(b"gone").output, "gone");
    assert_eq!(
        ChannelClosed::parse(br#"{"output":"x","CreatedDate":5}"#).output,
        "x"
    );
    assert_eq!(ChannelClosed::parse(b"").output, "");
}

#[test]
fn sizes_are_never_zero_and_exit_codes_may_lack_their_prefix() {
    assert_eq!(size_payload(0, 0), r#"{"cols":1,"rows":1}"#);
    assert_eq!(parse_size(br#"{"Cols":80,"ROWS":24}"#), Some((80, 24)));
    assert_eq!(parse_size(br#"{"cols":-1,"rows":24}"#), None);
    assert_eq!(parse_exit_code(b" 7\n"), Some(7));
    assert_eq!(parse_exit_code(b"EXIT_CODE: 99999999999"), None);
}

#[test]
fn a_tunnel_is_multiplexed_by_type_and_agent_version() {
    let ready = |session_type, properties, version: &str| Ready {
        session_type: Some(session_type),
        agent_version: Some(ops_session::handshake::AgentVersion::new(version)),
        properties,
        ..Ready::default()
    };
    let local = json!({"type": "LocalPortForwarding"});
    assert!(ready(SessionType::Port, local.clone(), "3.1.0.0").is_mux());
    assert!(!ready(SessionType::Port, local.clone(), "3.0.196.0").is_mux());
    assert!(!ready(SessionType::Port, json!({"portNumber": "22"}), "3.3.0.0").is_mux());
    assert!(!ready(SessionType::Shell, local, "3.3.0.0").is_mux());
    assert!(!Ready::default().is_mux());
}
