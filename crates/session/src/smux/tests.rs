use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const HUGE: usize = 1 << 20;

fn vectors(kind: &str) -> Vec<Value> {
    let text = include_str!("../../tests/data/protocol-vectors.json");
    let file: Value = serde_json::from_str(text).expect("the vectors are JSON");
    let found: Vec<_> = file["vectors"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|v| v["kind"] == kind)
        .cloned()
        .collect();
    assert!(!found.is_empty(), "no vectors of kind {kind}");
    found
}

fn vector(id: &str) -> Value {
    vectors("smux")
        .into_iter()
        .find(|v| v["id"] == id)
        .expect("the vector is there")
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex"))
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn sha256_hex(bytes: &[u8]) -> String {
    to_hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Whole frames, put together from the pieces of a decoder: command, stream, payload.
fn frames(
    decoder: &mut Decoder,
    pieces: impl IntoIterator<Item = Bytes>,
) -> Result<Vec<Item>, SmuxError> {
    let mut found: Vec<Item> = Vec::new();
    for mut piece in pieces {
        while let Some(item) = decoder.poll(&mut piece)? {
            found.push(item);
        }
    }
    Ok(found)
}

fn check_frames(expected: &[Value], items: Vec<Item>) {
    let mut items = items.into_iter();
    for frame in expected {
        let id = frame["stream_id"].as_u64().expect("an id") as u32;
        let length = frame["length"].as_u64().expect("a length") as usize;
        match frame["command"].as_u64() {
            Some(0) => assert_eq!(items.next(), Some(Item::Open(id))),
            Some(1) => assert_eq!(items.next(), Some(Item::Close(id))),
            Some(3) => assert_eq!(items.next(), Some(Item::Ignored)),
            Some(2) => {
                let mut payload = Vec::new();
                while payload.len() < length {
                    let Some(Item::Data(of, data)) = items.next() else {
                        panic!("data of {id} was expected")
                    };
                    assert_eq!(of, id);
                    payload.extend_from_slice(&data);
                }
                assert_eq!(payload.len(), length);
                match frame["payload_hex"].as_str() {
                    Some(hex) => assert_eq!(to_hex(&payload), hex),
                    None => assert_eq!(
                        Some(sha256_hex(&payload).as_str()),
                        frame["payload_sha256_hex"].as_str()
                    ),
                }
            }
            other => panic!("command {other:?}"),
        }
    }
    assert_eq!(items.next(), None);
}

#[test]
fn the_decoder_reads_what_the_official_client_writes() {
    for vector in vectors("smux") {
        let Some(hex) = vector["hex"].as_str() else {
            continue;
        };
        let mut decoder = Decoder::default();
        let items = frames(&mut decoder, [Bytes::from(from_hex(hex))]).expect("valid");
        check_frames(vector["frames"].as_array().expect("a list"), items);
        assert_eq!(decoder.finish(), Ok(()));
    }
}

#[test]
fn frames_are_found_across_messages() {
    for vector in vectors("smux_over_messages") {
        let messages = vector["messages_hex"].as_array().expect("a list");
        let pieces = messages.iter().map(|m| {
            Bytes::from(from_hex(m.as_str().expect("hex"))).split_off(crate::wire::HEADER_LEN)
        });
        let items = frames(&mut Decoder::default(), pieces).expect("valid");
        check_frames(vector["frames"].as_array().expect("a list"), items);
    }
}

#[test]
fn the_client_writes_the_bytes_of_the_official_one() {
    let mut client = Client::new();
    let mut wire = Vec::new();
    let mut flush = |client: &mut Client| {
        while let Some(bytes) = client.poll_transmit(HUGE) {
            wire.extend_from_slice(&bytes);
        }
    };
    let first = client.open().expect("ids are left");
    client.write(first, Bytes::from_static(b"GET / HTTP/1.0\r\n\r\n"));
    flush(&mut client);
    let second = client.open().expect("ids are left");
    client.write(second, Bytes::from_static(&[0xff, 0]));
    flush(&mut client);
    client.close(first);
    flush(&mut client);
    client.close(second);
    flush(&mut client);
    assert_eq!(
        Some(to_hex(&wire).as_str()),
        vector("smux-two-streams")["hex"].as_str()
    );
}

#[test]
fn a_long_write_is_cut_as_the_official_client_cuts_it() {
    let mut client = Client::new();
    let id = client.open().expect("ids are left");
    client.write(id, (0..70_000_u32).map(|i| (i * 7) as u8).collect());
    let mut wire = Vec::new();
    while let Some(bytes) = client.poll_transmit(HUGE) {
        wire.extend_from_slice(&bytes);
    }
    assert_eq!(
        Some(sha256_hex(&wire).as_str()),
        vector("smux-70000")["sha256_hex"].as_str()
    );
}

#[test]
fn a_keep_alive_is_due_every_ten_seconds() {
    let mut client = Client::new().with_keep_alive(Duration::ZERO);
    assert_eq!(client.poll_timeout(), Some(KEEP_ALIVE_INTERVAL));
    client.handle_timeout(Duration::from_secs(9));
    assert_eq!(client.poll_transmit(HUGE), None);
    client.handle_timeout(Duration::from_secs(10));
    let bytes = client.poll_transmit(HUGE).expect("a keep-alive");
    assert_eq!(
        Some(to_hex(&bytes).as_str()),
        vector("smux-nop")["hex"].as_str()
    );
    assert_eq!(client.poll_timeout(), Some(Duration::from_secs(20)));
}

/// What a server made of a byte stream: data of each stream, those that ended, and the error of the
/// session if any.
#[allow(clippy::type_complexity)] // What a run of both ends shows, used here alone.
fn serve(
    pieces: impl IntoIterator<Item = Bytes>,
) -> (
    BTreeMap<StreamId, Vec<u8>>,
    Vec<StreamId>,
    Result<(), SmuxError>,
) {
    let mut server = Server::new();
    let mut result = Ok(());
    for piece in pieces {
        result = result.and_then(|()| server.handle_input(piece));
    }
    let mut data: BTreeMap<StreamId, Vec<u8>> = BTreeMap::new();
    let mut finished = Vec::new();
    while let Some(event) = server.poll_event() {
        match event {
            Event::Opened(id) => assert!(data.insert(id, Vec::new()).is_none()),
            Event::Data(id, bytes) => {
                server.release(id, bytes.len());
                data.get_mut(&id).expect("opened").extend_from_slice(&bytes);
            }
            Event::Finished(id) => finished.push(id),
            Event::Refused(_) => panic!("a server refuses nobody"),
        }
    }
    (data, finished, result.and_then(|()| server.finish()))
}

#[test]
fn the_server_reads_as_the_official_one() {
    for vector in vectors("smux_reader") {
        let id = vector["id"].as_str().expect("an id");
        let (data, finished, result) =
            serve([Bytes::from(from_hex(vector["hex"].as_str().expect("hex")))]);
        let rows = vector["official_server"].as_array().expect("a list");
        match rows.last().and_then(|row| row["accept_error"].as_str()) {
            Some("EOF") => assert_eq!(result, Ok(()), "{id}"),
            Some("unexpected EOF") => assert_eq!(result, Err(SmuxError::Truncated), "{id}"),
            Some("invalid protocol") => assert!(
                matches!(result, Err(SmuxError::Version(_) | SmuxError::Command(_))),
                "{id}: {result:?}"
            ),
            other => panic!("{id}: {other:?}"),
        }
        for row in rows.iter().filter(|row| row["stream_id"].is_u64()) {
            let stream = row["stream_id"].as_u64().expect("an id") as StreamId;
            let ended = row["end"].is_string();
            assert_eq!(finished.contains(&stream), ended, "{id}");
            // Data of a session that breaks off may be delivered up to the break: we do not wait
            // for the end of a frame.
            if ended {
                assert_eq!(
                    Some(to_hex(&data[&stream]).as_str()),
                    row["data_hex"].as_str(),
                    "{id}"
                );
            }
        }
    }
}

#[test]
fn a_failed_decoder_stays_failed() {
    let mut decoder = Decoder::default();
    let bad = || Bytes::from_static(&[1, 9, 0, 0, 3, 0, 0, 0]);
    assert_eq!(decoder.poll(&mut bad()), Err(SmuxError::Command(9)));
    assert_eq!(
        decoder.poll(&mut Bytes::from_static(&[1, 0, 0, 0, 3, 0, 0, 0])),
        Err(SmuxError::Command(9))
    );
    let mut decoder = Decoder::default();
    assert_eq!(
        decoder.poll(&mut Bytes::from_static(&[1, 0, 1, 0, 3, 0, 0, 0])),
        Err(SmuxError::Length {
            command: 0,
            length: 1
        })
    );
}

#[test]
fn the_body_of_a_window_update_is_skipped() {
    let mut input = Bytes::from_static(&[
        1, 4, 8, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 0, 0, 3, 0, 0, 0,
    ]);
    assert_eq!(
        Decoder::default().poll(&mut input),
        Ok(Some(Item::Close(3)))
    );
}

fn frame(command: Command, id: StreamId, payload: &[u8]) -> Bytes {
    let mut out = bytes::BytesMut::new();
    encode_header(&mut out, command, payload.len() as u16, id);
    out.extend_from_slice(payload);
    out.freeze()
}

fn events(client: &mut Client) -> Vec<Event> {
    std::iter::from_fn(|| client.poll_event()).collect()
}

#[test]
fn a_dial_error_belongs_to_the_stream_that_is_closed_next_without_data() {
    let mut client = Client::new();
    let waiting = client.open().expect("an id");
    let talking = client.open().expect("an id");
    let refused = client.open().expect("an id");
    client
        .handle_input(frame(Command::Psh, talking, b"hello"))
        .expect("valid");
    client.handle_connect_error();
    client
        .handle_input(frame(Command::Fin, talking, b""))
        .expect("valid");
    client
        .handle_input(frame(Command::Fin, refused, b""))
        .expect("valid");
    client
        .handle_input(frame(Command::Fin, waiting, b""))
        .expect("valid");
    let expected = vec![
        Event::Data(talking, Bytes::from_static(b"hello")),
        Event::Finished(talking),
        Event::Refused(refused),
        Event::Finished(waiting),
    ];
    assert_eq!(events(&mut client), expected);
}

#[test]
fn an_agent_that_opens_closes_and_fills_what_nobody_opened_leaves_no_trace() {
    let mut client = Client::new();
    let own = client.open().unwrap();
    while client.poll_transmit(1024).is_some() {}
    for foreign in (0..20_000).filter(|id| *id != own) {
        for (command, payload) in [
            (Command::Syn, &b""[..]),
            (Command::Psh, b"x"),
            (Command::Upd, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
            (Command::Fin, b""),
            (Command::Nop, b""),
        ] {
            client
                .handle_input(frame(command, foreign, payload))
                .unwrap();
        }
        client.handle_connect_error();
    }
    assert_eq!(events(&mut client), []);
    assert_eq!((client.stream_count(), client.queued_bytes()), (1, 0));
    assert!(client.is_idle());
    // However often the far end closes, the stream ends once.
    for _ in 0..3 {
        client.handle_input(frame(Command::Fin, own, b"")).unwrap();
        client.handle_input(frame(Command::Psh, own, b"x")).unwrap();
    }
    assert_eq!(events(&mut client), [Event::Refused(own)]);
}

#[test]
fn a_stream_is_forgotten_once_both_sides_have_closed_it() {
    let mut client = Client::new();
    let (ours, theirs) = (client.open().expect("an id"), client.open().expect("an id"));
    client.close(ours);
    client
        .handle_input(frame(Command::Psh, ours, b"too late"))
        .expect("valid");
    client
        .handle_input(frame(Command::Fin, ours, b""))
        .expect("valid");
    client
        .handle_input(frame(Command::Fin, theirs, b""))
        .expect("valid");
    assert_eq!(events(&mut client), vec![Event::Finished(theirs)]);
    assert_eq!(client.stream_count(), 1);
    client.close(theirs);
    assert_eq!(client.stream_count(), 0);
    let sent = client.poll_transmit(HUGE).expect("frames");
    let items = frames(&mut Decoder::default(), [sent]).expect("valid");
    assert_eq!(
        items,
        vec![
            Item::Open(ours),
            Item::Close(ours),
            Item::Open(theirs),
            Item::Close(theirs)
        ]
    );
}

#[test]
fn an_abort_drops_what_was_not_sent() {
    let mut client = Client::new();
    let id = client.open().expect("an id");
    client.write(id, Bytes::from(vec![0; 100_000]));
    assert_eq!(client.queued_bytes(), 100_000);
    client.abort(id);
    assert_eq!(client.queued_bytes(), 0);
    let sent = client.poll_transmit(HUGE).expect("frames");
    assert_eq!(
        frames(&mut Decoder::default(), [sent]).expect("valid"),
        vec![Item::Open(id), Item::Close(id)]
    );
    assert!(client.is_idle());
}

#[test]
fn a_key_press_goes_before_bulk_data() {
    let mut client = Client::new();
    let bulk: Vec<_> = (0..8).map(|_| client.open().expect("an id")).collect();
    for &id in &bulk {
        client.write(id, Bytes::from(vec![0; 1 << 20]));
    }
    for _ in 0..32 {
        client.poll_transmit(16 << 10).expect("bulk data");
    }
    let shell = client.open().expect("an id");
    client.write(shell, Bytes::from_static(b"x"));
    let next = client.poll_transmit(16 << 10).expect("data");
    let mut found = frames(&mut Decoder::default(), [next])
        .expect("valid")
        .into_iter();
    assert_eq!(found.next(), Some(Item::Open(shell)));
    assert_eq!(
        found.next(),
        Some(Item::Data(shell, Bytes::from_static(b"x")))
    );
}

#[test]
fn bulk_streams_share_alike() {
    let mut client = Client::new();
    let ids: Vec<_> = (0..5).map(|_| client.open().expect("an id")).collect();
    for &id in &ids {
        client.write(id, Bytes::from(vec![0; 1 << 20]));
    }
    let mut sent: BTreeMap<StreamId, usize> = BTreeMap::new();
    let mut decoder = Decoder::default();
    for _ in 0..100 {
        let bytes = client.poll_transmit(1024).expect("bulk data");
        assert!(bytes.len() <= 1024);
        for item in frames(&mut decoder, [bytes]).expect("valid") {
            if let Item::Data(id, data) = item {
                *sent.entry(id).or_default() += data.len();
            }
        }
    }
    let (least, most) = (
        sent.values().min().expect("sent"),
        sent.values().max().expect("sent"),
    );
    assert_eq!(sent.len(), ids.len());
    assert!(most - least <= 4096, "{sent:?}");
}

#[test]
fn the_server_wants_no_input_while_its_budget_is_spent() {
    let mut server = Server::new();
    server
        .handle_input(frame(Command::Syn, 3, b""))
        .expect("valid");
    let chunk = vec![0; 65_535];
    let mut fed = 0;
    while server.wants_input() {
        server
            .handle_input(frame(Command::Psh, 3, &chunk))
            .expect("valid");
        fed += chunk.len();
    }
    assert!(fed >= RECEIVE_BUDGET_BYTES && fed < RECEIVE_BUDGET_BYTES + chunk.len());
    server.release(3, chunk.len());
    assert!(server.wants_input());
    server
        .handle_input(frame(Command::Psh, 3, &chunk))
        .expect("valid");
    assert!(!server.wants_input());
    server.close(3);
    assert!(server.wants_input(), "closing a stream returns its share");
}

#[test]
fn the_server_accepts_in_the_order_of_opening() {
    let mut server = Server::new();
    for id in 0..ACCEPT_BACKLOG as u32 {
        assert!(server.wants_input());
        server
            .handle_input(frame(Command::Syn, 2 * id + 3, b""))
            .expect("valid");
    }
    assert!(!server.wants_input());
    assert_eq!(server.accept(), Some(3));
    assert_eq!(server.accept(), Some(5));
    assert!(server.wants_input());
}

fn split_at_random(bytes: &Bytes, cuts: &[usize]) -> Vec<Bytes> {
    let mut rest = bytes.clone();
    let mut pieces = Vec::new();
    for &cut in cuts {
        let piece = rest.split_to((cut % 23).min(rest.len()));
        pieces.push(piece);
    }
    pieces.push(rest);
    pieces
}

proptest! {
    #[test]
    fn what_clients_write_servers_read_however_it_is_cut(
        writes in proptest::collection::vec((0..4_usize, proptest::collection::vec(any::<u8>(), 0..6000)), 0..24),
        cuts in proptest::collection::vec(any::<usize>(), 0..200),
        max_bytes in 9..40_000_usize,
    ) {
        let mut client = Client::new();
        let ids: Vec<_> = (0..4).map(|_| client.open().expect("an id")).collect();
        let mut expected: BTreeMap<StreamId, Vec<u8>> = ids.iter().map(|&id| (id, Vec::new())).collect();
        for (stream, data) in &writes {
            client.write(ids[*stream], Bytes::copy_from_slice(data));
            expected.get_mut(&ids[*stream]).expect("opened").extend_from_slice(data);
        }
        for &id in &ids {
            client.close(id);
        }
        let mut wire = Vec::new();
        while let Some(bytes) = client.poll_transmit(max_bytes) {
            prop_assert!(!bytes.is_empty() && bytes.len() <= max_bytes);
            wire.extend_from_slice(&bytes);
        }
        prop_assert!(client.is_idle());
        prop_assert_eq!(client.queued_bytes(), 0);
        let (data, mut finished, result) = serve(split_at_random(&Bytes::from(wire), &cuts));
        finished.sort_unstable();
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(data, expected);
        prop_assert_eq!(finished, ids);
    }

    #[test]
    fn hostile_bytes_never_panic(
        input in proptest::collection::vec(any::<u8>(), 0..600),
        headers in proptest::collection::vec((0..6_u8, any::<u16>(), 0..8_u32), 0..40),
        cuts in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let mut bytes = Vec::new();
        for (command, length, id) in headers {
            bytes.extend_from_slice(&[1, command]);
            bytes.extend_from_slice(&(length % 40).to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&input[..input.len().min(usize::from(length % 40))]);
        }
        bytes.extend_from_slice(&input);
        let bytes = Bytes::from(bytes);
        let mut client = Client::new();
        let mut server = Server::new();
        client.open().expect("an id");
        client.handle_connect_error();
        let (mut client_failed, mut server_failed) = (false, false);
        for piece in split_at_random(&bytes, &cuts) {
            let result = client.handle_input(piece.clone()).is_err();
            prop_assert!(result || !client_failed, "a failed session does not come back");
            client_failed |= result;
            let result = server.handle_input(piece).is_err();
            prop_assert!(result || !server_failed);
            server_failed |= result;
        }
        while let Some(event) = server.poll_event() {
            if let Event::Opened(id) | Event::Finished(id) = event {
                server.write(id, Bytes::from_static(b"x"));
                server.close(id);
            }
        }
        while server.poll_transmit(9).is_some() {}
        while client.poll_transmit(9).is_some() {}
    }
}
