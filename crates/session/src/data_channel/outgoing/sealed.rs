//! The sending half of an encrypted session.

use bytes::{BufMut, Bytes, BytesMut};

use super::Outgoing;
use crate::encryption::{Role, SEAL_BYTES, Sealer, is_encrypted};
use crate::wire::{HEADER_LEN, Header, OFFICIAL_PAYLOAD_BYTES, PayloadType};

impl Outgoing {
    /// From now on payloads are sealed.
    pub(in crate::data_channel) fn set_sealer(&mut self, sealer: Sealer) {
        self.sealer = Some(sealer);
    }

    pub(in crate::data_channel) fn forget_sealer(&mut self) {
        self.sealer = None;
    }

    /// Appends `payload` to `out`, sealed; nothing where there is no key.
    pub(in crate::data_channel) fn seal(&mut self, payload: &[u8], out: &mut BytesMut) {
        if let Some(sealer) = &mut self.sealer {
            sealer.seal(out, |out| out.put_slice(payload));
        }
    }

    /// Takes the sealer if payloads of this type are sealed; whoever takes it puts it back.
    pub(super) fn take_sealer(&mut self, payload_type: PayloadType) -> Option<Sealer> {
        self.sealer
            .take_if(|_| is_encrypted(Role::Client, payload_type))
    }

    pub(super) fn put_back_sealer(&mut self, sealer: Option<Sealer>) {
        if sealer.is_some() {
            self.sealer = sealer;
        }
    }

    /// The frame of one message, its payload sealed if its type is.
    pub(super) fn encode(&mut self, header: &Header, payload: &[u8]) -> Bytes {
        let mut frame = BytesMut::with_capacity(HEADER_LEN + SEAL_BYTES + payload.len());
        let mut sealer = self.take_sealer(header.payload_type);
        header.encode_with(&mut frame, |out| match &mut sealer {
            None => out.put_slice(payload),
            Some(sealer) => sealer.seal(out, |out| out.put_slice(payload)),
        });
        self.put_back_sealer(sealer);
        frame.freeze()
    }

    /// Longest payload that every agent is known to take, with its seal.
    pub(super) fn official_payload_len(&self) -> usize {
        OFFICIAL_PAYLOAD_BYTES + self.sealer.as_ref().map_or(0, |_| SEAL_BYTES)
    }
}
