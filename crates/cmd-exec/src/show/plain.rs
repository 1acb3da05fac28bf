//! One server: its output as it is, and nothing else.

use ops_ui::Result;

use super::{Sink, View};
use crate::{capture::Stream, outcome::Ending};

/// The view.
pub(crate) struct Plain;

impl View for Plain {
    fn hear(&mut self, _: usize, stream: Stream, piece: &[u8], sink: &mut dyn Sink) -> Result<()> {
        sink.lines(stream, piece)
    }

    fn end(&mut self, _: usize, _: &Ending, _: &mut dyn Sink) -> Result<()> {
        Ok(())
    }
}
