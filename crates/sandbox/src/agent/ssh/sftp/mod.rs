//! The SFTP subsystem: version 3 with the extensions that the usual client uses, on this machine's
//! files.
//!
//! Requests are answered in order. What a client has sent ahead is handled in one go on a thread
//! that may wait for the disk, so that a pipelining client pays for a change of thread once per
//! batch.

mod files;
mod wire;

use std::{io, path::Path};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use files::Server;

/// Largest packet taken, as the usual server has it.
const PACKET_BYTES: usize = 256 * 1024;
/// Requests handled in one go. Bounds the answers that are held at once, each at most a packet.
const BATCH_REQUESTS: usize = 16;

/// Answers requests until the client ends its side. Names that are not absolute begin at `home`.
///
/// # Errors
/// The client is gone, or what it sends is no SFTP.
pub(super) async fn serve(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    home: &Path,
) -> io::Result<()> {
    let mut server = Server::new(home);
    let mut input = BytesMut::with_capacity(2 * PACKET_BYTES);
    loop {
        let mut batch = Vec::new();
        while batch.len() < BATCH_REQUESTS
            && let Some(packet) = take_packet(&mut input)?
        {
            batch.push(packet);
        }
        if batch.is_empty() {
            input.reserve(PACKET_BYTES);
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
            continue;
        }
        let answers;
        (server, answers) = tokio::task::spawn_blocking(move || {
            let answers = server.answer(&batch);
            (server, answers)
        })
        .await?;
        stream.write_all(&answers).await?;
    }
}

fn take_packet(input: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(&len) = input.first_chunk() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(len) as usize;
    if len == 0 || len > PACKET_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "no SFTP packet has this length",
        ));
    }
    if input.len() < 4 + len {
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(len).freeze()))
}
