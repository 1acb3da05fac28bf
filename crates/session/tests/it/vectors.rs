//! The vectors made with the official programs
//! (`tests/data/protocol-vectors.json`; its `how_to_read` explains the kinds).

use ops_session::handshake::{
    AgentVersion, client_version_disables_smux_keepalive, client_version_is_current,
    client_version_speaks_mux,
};
use ops_session::wire::{Header, Message, MessageType, PayloadType};
use serde_json::Value;

pub(crate) fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../data/protocol-vectors.json")).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

pub(crate) fn of_kind(kind: &str) -> Vec<Value> {
    let found: Vec<Value> = vectors()
        .into_iter()
        .filter(|v| v["kind"] == kind)
        .collect();
    assert!(!found.is_empty(), "no vector of kind {kind}");
    found
}

pub(crate) fn bytes_of(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}

pub(crate) fn frame_of(id: &str) -> Vec<u8> {
    bytes_of(&vectors().iter().find(|v| v["id"] == id).unwrap()["hex"])
}

#[test]
fn every_kind_of_vector_is_known_here() {
    let here = ["message", "message_negative", "rto", "versions", "script"];
    // smux is tested beside its codec, kms beside its cipher; sigv4 where the upgrade is signed,
    // kms_request where the call is made.
    let elsewhere = [
        "smux",
        "smux_reader",
        "smux_over_messages",
        "sigv4",
        "kms",
        "kms_negative",
        "kms_challenge",
        "kms_request",
    ];
    for vector in vectors() {
        let kind = vector["kind"].as_str().unwrap();
        assert!(here.contains(&kind) || elsewhere.contains(&kind), "{kind}");
    }
}

#[test]
fn messages_decode_to_their_fields_and_encode_to_their_bytes() {
    for vector in of_kind("message") {
        let (id, fields) = (vector["id"].as_str().unwrap(), &vector["fields"]);
        let frame = bytes_of(&vector["hex"]);
        let message = Message::decode(&frame).unwrap_or_else(|e| panic!("{id}: {e}"));
        let header = message.header;
        assert_eq!(
            header.message_type.name(),
            fields["message_type"].as_str().unwrap(),
            "{id}"
        );
        assert_eq!(
            header.schema_version,
            fields["schema_version"].as_u64().unwrap() as u32,
            "{id}"
        );
        assert_eq!(
            header.created_ms,
            fields["created_date"].as_u64().unwrap(),
            "{id}"
        );
        assert_eq!(
            header.sequence_number,
            fields["sequence_number"].as_i64().unwrap(),
            "{id}"
        );
        assert_eq!(header.flags, fields["flags"].as_u64().unwrap(), "{id}");
        assert_eq!(
            header.message_id.to_string(),
            fields["message_id"].as_str().unwrap(),
            "{id}"
        );
        assert_eq!(
            u64::from(u32::from(header.payload_type)),
            fields["payload_type"].as_u64().unwrap(),
            "{id}"
        );
        assert_eq!(message.payload, bytes_of(&fields["payload_hex"]), "{id}");
        // The two altered vectors leave the digest out.
        if fields.get("payload_digest_hex").is_some() {
            assert_eq!(
                message.digest.to_vec(),
                bytes_of(&fields["payload_digest_hex"]),
                "{id}"
            );
        }
        if !["msg-nul-padded-type", "msg-start-publication-bare"].contains(&id) {
            assert_eq!(header.encode(message.payload), frame, "{id}");
        }
    }
}

#[test]
fn malformed_messages_are_rejected() {
    for vector in of_kind("message_negative") {
        let (id, expect) = (
            vector["id"].as_str().unwrap(),
            vector["expect"].as_str().unwrap(),
        );
        let frame = bytes_of(&vector["hex"]);
        let decoded = Message::decode(&frame);
        if expect.starts_with("reject:") {
            assert!(decoded.is_err(), "{id}: {expect}, but it decoded");
        } else {
            let unknown = decoded.is_err()
                || matches!(decoded, Ok(m) if matches!(m.header.message_type, MessageType::Other(_)));
            assert!(unknown, "{id}: {expect}");
        }
    }
}

#[test]
fn a_message_type_padded_with_nul_is_written_with_spaces() {
    let frame = frame_of("msg-nul-padded-type");
    let message = Message::decode(&frame).unwrap();
    assert_eq!(
        message.header.encode(message.payload),
        frame_of("msg-input-output-ls")
    );
}

#[test]
fn agent_versions_open_the_gates_the_official_client_opens() {
    let vectors = of_kind("versions");
    let rows = vectors
        .iter()
        .find(|v| v["id"] == "agent-version-gates")
        .unwrap();
    for row in rows["rows"].as_array().unwrap() {
        let text = row["agent_version"].as_str().unwrap();
        let version = AgentVersion::new(text);
        assert_eq!(
            version.speaks_mux(),
            row["mux"].as_bool().unwrap(),
            "{text}"
        );
        assert_eq!(
            version.disables_smux_keepalive(),
            row["smux_keepalive_disabled"].as_bool().unwrap(),
            "{text}"
        );
        assert_eq!(
            version.understands_terminate_flag(),
            row["terminate_flag"].as_bool().unwrap(),
            "{text}"
        );
    }
}

#[test]
fn client_versions_open_the_gates_the_official_agent_opens() {
    let vectors = of_kind("versions");
    let rows = vectors
        .iter()
        .find(|v| v["id"] == "client-version-gates")
        .unwrap();
    for row in rows["rows"].as_array().unwrap() {
        let version = row["client_version"].as_str().unwrap();
        assert_eq!(
            client_version_speaks_mux(version),
            row["agent_speaks_mux"].as_bool().unwrap(),
            "{version}"
        );
        assert_eq!(
            client_version_disables_smux_keepalive(version),
            row["agent_disables_smux_keepalive"].as_bool().unwrap(),
            "{version}"
        );
        assert_eq!(
            !client_version_is_current(version),
            row["agent_shows_update_notice_for_separate_output"]
                .as_bool()
                .unwrap(),
            "{version}"
        );
    }
}

#[test]
fn a_header_survives_encoding_and_decoding() {
    let header = Header {
        message_type: MessageType::InputStreamData,
        schema_version: 1,
        created_ms: 1,
        sequence_number: i64::MAX,
        flags: u64::MAX,
        message_id: uuid::Uuid::from_u128(7),
        payload_type: PayloadType::Other(99),
    };
    let frame = header.encode(b"x");
    assert_eq!(Message::decode(&frame).unwrap().header, header);
}
