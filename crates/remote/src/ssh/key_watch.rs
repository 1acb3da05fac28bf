//! Looks at the host key that a server shows to an ssh that runs elsewhere.
//!
//! The user's own ssh checks host keys as its configuration says, and a `Host *` entry there may
//! say that it checks none. Whoever carries the connection can look for itself: up to NEWKEYS a key
//! exchange is in the clear, and the server's reply begins with its host key. That the server has
//! the key, ssh makes sure of in any case: it verifies the signature of the exchange under just
//! this key.

use std::path::Path;

use bytes::{Buf as _, Bytes, BytesMut};
use ops_ui::{Error, ErrorKind, Result, hint};
use russh::keys::{Certificate, PublicKey, ssh_key::public::KeyData};

use super::known_hosts::KnownHostKeys;

/// Message numbers. Source: RFC 4253, section 12; RFC 4419, section 5; RFC 5656, section 7.1.
const NEWKEYS: u8 = 21;
/// The reply of all key exchanges but those with a negotiated group, where this is the group.
const REPLY_OR_GROUP: u8 = 31;
const GROUP_REPLY: u8 = 33;
/// What a server sends before its keys are agreed is far shorter, in bytes: RFC 4253 wants 35,000
/// for a packet.
const MAX_BYTES: usize = 256 << 10;

/// What the server sends at the beginning of a connection, looked through.
pub struct KeyWatch {
    known: KnownHostKeys,
    unread: BytesMut,
    stage: Stage,
    verified: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Lines up to and with the one that begins with `SSH-`.
    Version,
    /// Packets in the clear.
    Packets,
    /// Encrypted: passed on as it is.
    Encrypted,
}

impl KeyWatch {
    /// Watches for the keys that `file` pins for the instance `id`, which messages call `label`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(file: &Path, id: &str, label: &str) -> Result<Self> {
        Ok(Self {
            known: KnownHostKeys::read(file, id, label)?,
            unread: BytesMut::new(),
            stage: Stage::Version,
            verified: false,
        })
    }

    /// Takes what came from the server, and gives what may be passed on. A packet is held back
    /// until it is whole and has been looked at.
    ///
    /// # Errors
    /// The server shows another key, or none before it goes over to encryption.
    pub fn pass(&mut self, bytes: Bytes) -> Result<Bytes> {
        if self.stage == Stage::Encrypted {
            return Ok(bytes);
        }
        self.unread.extend_from_slice(&bytes);
        let mut passed = BytesMut::new();
        while let Some(len) = self.next_whole()? {
            let piece = self.unread.split_to(len);
            self.look_at(&piece)?;
            passed.extend_from_slice(&piece);
            if self.stage == Stage::Encrypted {
                passed.extend_from_slice(&self.unread.split());
                break;
            }
        }
        Ok(passed.freeze())
    }

    /// Length of the line or packet that begins what is unread, once it is whole.
    fn next_whole(&self) -> Result<Option<usize>> {
        let whole = match self.stage {
            Stage::Version => self
                .unread
                .iter()
                .position(|byte| *byte == b'\n')
                .map(|at| at + 1),
            Stage::Packets => self
                .unread
                .first_chunk()
                .map(|len| 4 + u32::from_be_bytes(*len) as usize),
            Stage::Encrypted => None,
        };
        match whole {
            Some(len) if len <= self.unread.len() => Ok(Some(len)),
            Some(len) if len > MAX_BYTES => Err(self.unusual("a packet is too long")),
            None if self.unread.len() > MAX_BYTES => Err(self.unusual("a line is too long")),
            _ => Ok(None),
        }
    }

    fn look_at(&mut self, piece: &[u8]) -> Result<()> {
        if self.stage == Stage::Version {
            // Lines of other text may come first (RFC 4253, section 4.2).
            if piece.starts_with(b"SSH-") {
                self.stage = Stage::Packets;
            }
            return Ok(());
        }
        // Packet length, padding length, payload.
        let payload = piece.get(5..).unwrap_or_default();
        match payload.first() {
            Some(&NEWKEYS) if self.verified => self.stage = Stage::Encrypted,
            Some(&NEWKEYS) => return Err(self.unusual("it has shown no host key")),
            Some(number @ &(REPLY_OR_GROUP | GROUP_REPLY)) => {
                let mut rest = payload.get(1..).unwrap_or_default();
                let len = rest.try_get_u32().unwrap_or_default() as usize;
                let blob = rest.get(..len).unwrap_or_default();
                // The prime of a group is a positive number of thousands of bits: after at most one
                // zero byte comes a large one. A key begins with the length of its name, three
                // bytes of which are zero.
                if *number == GROUP_REPLY || blob.len() < 64 || blob.starts_with(&[0, 0, 0]) {
                    self.verify(blob)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn verify(&mut self, blob: &[u8]) -> Result<()> {
        let key = PublicKey::from_bytes(blob)
            .map(|key| key.key_data().clone())
            // A server with a certificate shows it in place of the key, which stands in it.
            .or_else(|_| Certificate::from_bytes(blob).map(|certificate| key_of(&certificate)));
        let Ok(key) = key else {
            return Err(self.unusual("its host key is of a kind that is not understood"));
        };
        if self.known.check(&PublicKey::from(key))? {
            self.verified = true;
            return Ok(());
        }
        Err(self.unusual("no key of it is pinned"))
    }

    fn unusual(&self, why: &str) -> Error {
        Error::new(
            ErrorKind::Refused,
            format!("the host key of `{}` cannot be checked", self.known.label()),
        )
        .caused_by(why)
        .hint(hint!(
            "fetch its keys anew: ops ssh --host-keys ssm {}",
            self.known.label()
        ))
    }
}

fn key_of(certificate: &Certificate) -> KeyData {
    certificate.public_key().clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::KeyPair;

    const ID: &str = "i-0123456789abcdef0";

    fn packet(payload: &[u8]) -> Vec<u8> {
        let padding = 8 - (5 + payload.len()) % 8 + 8;
        let mut packet = u32::try_from(1 + payload.len() + padding)
            .unwrap()
            .to_be_bytes()
            .to_vec();
        packet.push(u8::try_from(padding).unwrap());
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + padding, 0);
        packet
    }

    fn string(bytes: &[u8]) -> Vec<u8> {
        let mut string = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        string.extend_from_slice(bytes);
        string
    }

    fn blob(pair: &KeyPair) -> Vec<u8> {
        pair.private_key().public_key().to_bytes().unwrap()
    }

    fn reply(number: u8, blob: &[u8]) -> Vec<u8> {
        packet(&[&[number][..], &string(blob), &string(&[7; 32])].concat())
    }

    struct Case {
        _folder: tempfile::TempDir,
        watch: KeyWatch,
        pinned: KeyPair,
    }

    fn case() -> Case {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        let pinned = KeyPair::generate().unwrap();
        std::fs::write(&file, format!("{ID} {}\n", pinned.public_line().unwrap())).unwrap();
        Case {
            watch: KeyWatch::new(&file, ID, "web-1").unwrap(),
            _folder: folder,
            pinned,
        }
    }

    fn greeting() -> Vec<u8> {
        [
            b"hello\r\nSSH-2.0-OpenSSH_9.2p1\r\n".to_vec(),
            packet(&[20; 900]),
        ]
        .concat()
    }

    #[test]
    fn the_pinned_key_passes_whole_and_in_pieces() {
        for number in [REPLY_OR_GROUP, GROUP_REPLY] {
            for step in [1, 7, 100_000] {
                let mut case = case();
                let mut sent = greeting();
                if number == GROUP_REPLY {
                    // The group comes first: a prime of 2048 bits.
                    let prime = [&[0, 0xff][..], &[9; 255]].concat();
                    sent.extend(packet(
                        &[&[REPLY_OR_GROUP][..], &string(&prime), &string(&[2])].concat(),
                    ));
                }
                sent.extend(reply(number, &blob(&case.pinned)));
                sent.extend(packet(&[NEWKEYS]));
                sent.extend([0xee; 50]);
                let mut passed = Vec::new();
                for piece in sent.chunks(step) {
                    let piece = Bytes::copy_from_slice(piece);
                    passed.extend_from_slice(&case.watch.pass(piece).unwrap());
                }
                assert_eq!(passed, sent, "{number} {step}");
            }
        }
    }

    #[test]
    fn another_key_is_refused_and_its_packet_held_back() {
        let mut case = case();
        let other = KeyPair::generate().unwrap();
        let passed = case.watch.pass(greeting().into()).unwrap();
        assert_eq!(passed, greeting());
        let error = case
            .watch
            .pass(reply(REPLY_OR_GROUP, &blob(&other)).into())
            .unwrap_err();
        assert!(error.what().contains("has changed"), "{error:?}");
    }

    #[test]
    fn a_pinned_key_in_a_message_that_ssh_ignores_lets_no_other_pass() {
        let mut case = case();
        let other = KeyPair::generate().unwrap();
        let mut sent = greeting();
        sent.extend(reply(GROUP_REPLY, &blob(&case.pinned)));
        case.watch.pass(sent.into()).unwrap();
        for blob in [
            blob(&other),
            [&string(b"ssh-unknown")[..], &[1; 100]].concat(),
            Vec::new(),
        ] {
            assert!(
                case.watch
                    .pass(reply(REPLY_OR_GROUP, &blob).into())
                    .is_err()
            );
        }
    }

    #[test]
    fn a_server_without_a_key_or_with_endless_text_is_cut_off() {
        let mut case = case();
        let sent = [greeting(), packet(&[NEWKEYS])].concat();
        assert!(case.watch.pass(sent.into()).is_err());
        let mut case = self::case();
        assert!(case.watch.pass(vec![b'x'; MAX_BYTES + 1].into()).is_err());
        let mut case = self::case();
        let sent = [&b"SSH-2.0-x\r\n"[..], &[0xff; 8]].concat();
        assert!(case.watch.pass(sent.into()).is_err());
    }

    #[test]
    fn without_a_pinned_key_nothing_passes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        let mut watch = KeyWatch::new(&file, ID, "web-1").unwrap();
        let own = KeyPair::generate().unwrap();
        let sent = [greeting(), reply(REPLY_OR_GROUP, &blob(&own))].concat();
        assert!(watch.pass(sent.into()).is_err());
    }
}
