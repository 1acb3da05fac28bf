//! Bytes and messages on a channel that is safe for text only.
//!
//! The agent repairs what is not UTF-8 in a command's output, and loses some of it, so bytes travel
//! as base64 (or hexadecimal digits where a server has no base64). Messages of the script stand
//! between them: `!`, which neither alphabet has, then text up to a line feed. A script writes each
//! with one call, so that it stays together although both streams may end up in one. White space
//! between bytes means nothing.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;

/// Longest message, in bytes; what is longer is cut off.
const MESSAGE_MAX_BYTES: usize = 8 << 10;

/// The message by which a script says that it writes in hexadecimal digits from here on.
const HEX: &str = "hex";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Four characters for three bytes.
    #[default]
    Base64,
    /// Two digits for a byte: for servers with od alone.
    Hex,
}

/// What has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodedItem {
    /// Bytes, in order.
    Bytes(Bytes),
    /// A message of the script, without `!` and line feed. It comes from the far side: to be
    /// escaped before a terminal sees it.
    Message(String),
}

/// A text that is not of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the far side sent what is neither data nor a message")]
pub struct Garbled;

/// Reads one channel, piece by piece, however it is cut.
#[derive(Debug)]
pub struct Decoder {
    encoding: Encoding,
    /// Digits that do not make a whole group yet.
    digits: Vec<u8>,
    message: Option<Vec<u8>>,
}

impl Decoder {
    /// Reads bytes in `encoding`.
    pub fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            digits: Vec::new(),
            message: None,
        }
    }

    /// Takes the next piece; what it completes is appended to `items`.
    ///
    /// # Errors
    /// [`Garbled`]; the decoder is of no use afterwards.
    pub fn push(&mut self, piece: &[u8], items: &mut Vec<DecodedItem>) -> Result<(), Garbled> {
        let mut rest = piece;
        while !rest.is_empty() {
            if let Some(message) = &mut self.message {
                let end = rest.iter().position(|&b| b == b'\n');
                let part = &rest[..end.unwrap_or(rest.len())];
                let room = MESSAGE_MAX_BYTES.saturating_sub(message.len());
                message.extend_from_slice(&part[..part.len().min(room)]);
                rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
                if end.is_some() {
                    let text = self.message.take().unwrap_or_default();
                    let text = String::from_utf8_lossy(&text);
                    // What follows may be in the same piece.
                    if text.trim_end() == HEX {
                        self.encoding = Encoding::Hex;
                        continue;
                    }
                    items.push(DecodedItem::Message(text.trim_end_matches('\r').to_owned()));
                }
                continue;
            }
            let end = rest.iter().position(|&b| b == b'!').unwrap_or(rest.len());
            self.digits
                .extend(rest[..end].iter().filter(|b| !b.is_ascii_whitespace()));
            if end < rest.len() {
                self.message = Some(Vec::new());
            }
            rest = &rest[(end + 1).min(rest.len())..];
            self.decode(items)?;
        }
        Ok(())
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// [`Garbled`] if something is left over: the stream was cut off.
    pub fn finish(&self) -> Result<(), Garbled> {
        if self.digits.is_empty() && self.message.is_none() {
            Ok(())
        } else {
            Err(Garbled)
        }
    }

    fn decode(&mut self, items: &mut Vec<DecodedItem>) -> Result<(), Garbled> {
        let bytes = match self.encoding {
            Encoding::Base64 => {
                let mut bytes = Vec::with_capacity(self.digits.len() / 4 * 3);
                let mut whole = self.digits.len() / 4 * 4;
                // Padding ends a run; another may follow, as each of several programs writes its
                // own.
                let mut digits = &self.digits[..whole];
                while let Some(pad) = digits.iter().position(|&b| b == b'=') {
                    let end = (pad / 4 + 1) * 4;
                    BASE64
                        .decode_vec(&digits[..end], &mut bytes)
                        .map_err(|_| Garbled)?;
                    digits = &digits[end..];
                }
                BASE64.decode_vec(digits, &mut bytes).map_err(|_| Garbled)?;
                whole = whole.min(self.digits.len());
                self.digits.drain(..whole);
                bytes
            }
            Encoding::Hex => {
                let whole = self.digits.len() / 2 * 2;
                let value = |digit: u8| char::from(digit).to_digit(16).ok_or(Garbled);
                let mut bytes = Vec::with_capacity(whole / 2);
                for pair in self.digits[..whole].chunks_exact(2) {
                    let byte = value(pair[0])? << 4 | value(pair[1])?;
                    bytes.push(u8::try_from(byte).map_err(|_| Garbled)?);
                }
                self.digits.drain(..whole);
                bytes
            }
        };
        if !bytes.is_empty() {
            items.push(DecodedItem::Bytes(bytes.into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(encoding: Encoding, text: &[u8], cut: usize) -> (Vec<u8>, Vec<String>) {
        let mut decoder = Decoder::new(encoding);
        let mut items = Vec::new();
        for piece in text.chunks(cut.max(1)) {
            decoder.push(piece, &mut items).unwrap();
        }
        decoder.finish().unwrap();
        let (mut bytes, mut messages) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                DecodedItem::Bytes(part) => bytes.extend_from_slice(&part),
                DecodedItem::Message(text) => messages.push(text),
            }
        }
        (bytes, messages)
    }

    #[test]
    fn messages_stand_between_bytes_wherever_they_fall() {
        let text = b"!ready\r\naGVs!e tar: gone\nbG8=\n!status 0\n";
        for cut in 1..text.len() {
            let (bytes, messages) = read(Encoding::Base64, text, cut);
            assert_eq!(bytes, b"hello");
            assert_eq!(messages, ["ready", "e tar: gone", "status 0"]);
        }
        assert_eq!(read(Encoding::Hex, b" 68 65\n 6c6c6f", 3).0, b"hello");
        for cut in 1..30 {
            let text = b"!hex\n 68 65 6c 6c!beat\n 6f\n";
            let (bytes, messages) = read(Encoding::Base64, text, cut);
            assert_eq!((&bytes[..], messages.len()), (&b"hello"[..], 1));
        }
    }

    #[test]
    fn runs_that_each_end_in_padding_are_read_one_after_another() {
        assert_eq!(
            read(Encoding::Base64, b"YQ==\nYmM=\nZGVm", 100).0,
            b"abcdef"
        );
    }

    #[test]
    fn what_is_neither_is_refused_and_what_is_cut_off_is_noticed() {
        let mut decoder = Decoder::new(Encoding::Base64);
        assert!(decoder.push(b"<html>", &mut Vec::new()).is_err());
        let mut decoder = Decoder::new(Encoding::Base64);
        decoder.push(b"YWJjZA", &mut Vec::new()).unwrap();
        assert!(decoder.finish().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_come_out_as_they_went_in(bytes: Vec<u8>, cut in 1_usize..50) {
            let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
            prop_assert_eq!(&read(Encoding::Base64, text.as_bytes(), cut).0, &bytes);
            let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            prop_assert_eq!(&read(Encoding::Hex, text.as_bytes(), cut).0, &bytes);
        }

        #[test]
        fn nothing_from_the_far_side_panics(bytes: Vec<u8>, cut in 1_usize..9) {
            for encoding in [Encoding::Base64, Encoding::Hex] {
                let mut decoder = Decoder::new(encoding);
                for piece in bytes.chunks(cut) {
                    if decoder.push(piece, &mut Vec::new()).is_err() {
                        break;
                    }
                }
            }
        }
    }
}
