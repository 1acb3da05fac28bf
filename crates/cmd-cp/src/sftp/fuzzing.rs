//! What an SFTP server sends, read from bytes; for `tests/fuzzing` alone.

use bytes::Bytes;

use super::wire;

/// Reads a packet as the first of a connection, and as an answer.
pub fn sftp_answer(packet: &[u8]) {
    let packet = Bytes::copy_from_slice(packet);
    let _ = wire::version(packet.clone());
    let _ = wire::answer(packet);
}
