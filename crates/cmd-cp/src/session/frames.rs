//! What carries the content of files to a server's dialogue: frames, compressed or as they are, and
//! how often a file is begun again.

use std::time::Duration;

use bytes::Bytes;
use ops_ui::{Error, Result};

use super::{ShellTransport, dialogue::Dialogue, inflate::compress_bytes};
use crate::{
    reading::FileReading,
    transport::{Job, Store},
};

/// Read at once, in bytes: what progress and `--limit-rate` count in.
const READ_BYTES: usize = 256 << 10;
/// Times a file is begun in all.
pub(super) const TRIES: u32 = 3;
/// Before it is begun again.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// A dialogue that can be used: the one that is there, or another.
pub(super) async fn usable_dialogue<'a>(
    session: &ShellTransport,
    dialogue: &'a mut Option<Dialogue>,
) -> Result<&'a mut Dialogue> {
    if !dialogue.as_ref().is_some_and(Dialogue::is_usable) {
        *dialogue = None;
    }
    match dialogue {
        Some(dialogue) => Ok(dialogue),
        none => Ok(none.insert(Dialogue::start(&session.host, &session.tools).await?)),
    }
}

/// Sends what is in `file` between `at` and `end`, which was announced; `told` of each piece.
pub(super) async fn send_announced(
    dialogue: &mut Dialogue,
    file: &FileReading,
    (mut at, end): (u64, u64),
    mut told: impl FnMut(&[u8]),
) -> Result<()> {
    while at < end {
        let len = usize::try_from(end - at).map_or(READ_BYTES, |left| left.min(READ_BYTES));
        let piece = match file.read_at(at, len).await {
            Ok(piece) => piece,
            Err(error) => {
                // What was announced is not coming.
                dialogue.give_up();
                return Err(error);
            }
        };
        told(&piece);
        at += piece.len() as u64;
        dialogue.send_piece(piece).await?;
    }
    Ok(())
}

/// The permissions that a new file gets.
pub(super) fn stored_mode(session: &ShellTransport, item: &Store, job: &Job) -> u32 {
    if job.preserve {
        item.mode & 0o7777
    } else {
        item.mode & 0o777 & !session.tools.umask
    }
}

/// What is in `file` from `at` on, `len` bytes or all that is left.
pub(super) async fn read_frame(file: &FileReading, at: u64, len: usize) -> Result<Bytes> {
    let left = file.size().saturating_sub(at);
    let len = usize::try_from(left).map_or(len, |left| left.min(len));
    let mut frame = Vec::with_capacity(len);
    while frame.len() < len {
        let piece = file
            .read_at(at + frame.len() as u64, READ_BYTES.min(len - frame.len()))
            .await?;
        frame.extend_from_slice(&piece);
    }
    Ok(frame.into())
}

/// The program to compress with, or `-` where it does not gain a fifth.
pub(super) fn choose_codec(session: &ShellTransport, job: &Job, frame: &[u8]) -> &'static str {
    let Some(codec) = session.tools.best_codec().filter(|_| job.compress) else {
        return "-";
    };
    let sample = &frame[..frame.len().min(READ_BYTES)];
    match compress_bytes(codec, sample) {
        Ok(packed) if sample.len() >= 4096 && packed.len() * 5 < sample.len() * 4 => codec,
        _ => "-",
    }
}

/// `frame` as `codec` has it.
pub(super) fn compress_frame(codec: &str, frame: Bytes) -> Result<Bytes> {
    if codec == "-" {
        return Ok(frame);
    }
    let packed = compress_bytes(codec, &frame)
        .map_err(|error| Error::unexpected("a file cannot be compressed").caused_by(error))?;
    Ok(packed.into())
}
