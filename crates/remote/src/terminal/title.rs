//! The terminal's title in place of a line on the screen, for those who want no cell of a
//! full-screen program touched.

/// Puts the title on a stack of the terminal's (XTWINOPS of xterm, which most terminals know).
const PUSH_TITLE: &str = "\x1b[22;2t";
/// Takes the title back from that stack.
const POP_TITLE: &str = "\x1b[23;2t";

/// The title while there is something to say.
#[derive(Default)]
pub(crate) struct Title {
    /// Ours is shown in place of the program's.
    is_taken: bool,
}

impl Title {
    /// The bytes that make `text` the title. It holds no control characters.
    pub(crate) fn take(&mut self, text: &str) -> Vec<u8> {
        let push = if std::mem::replace(&mut self.is_taken, true) {
            ""
        } else {
            PUSH_TITLE
        };
        format!("{push}{}", set(text)).into_bytes()
    }

    /// The bytes that give the program its title back; none if it has it. A terminal without a
    /// stack of titles shows `label` then, which at least is no news that has become untrue.
    pub(crate) fn give_back(&mut self, label: &str) -> Vec<u8> {
        if !std::mem::take(&mut self.is_taken) {
            return Vec::new();
        }
        format!("{}{POP_TITLE}", set(label)).into_bytes()
    }
}

/// OSC 2 of xterm: the title of the window.
fn set(title: &str) -> String {
    format!("\x1b]2;{title}\x07")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_is_taken_once_and_given_back_once() {
        let mut title = Title::default();
        assert_eq!(title.give_back("web-1"), b"");
        assert_eq!(title.take("lost"), b"\x1b[22;2t\x1b]2;lost\x07");
        assert_eq!(title.take("still lost"), b"\x1b]2;still lost\x07");
        assert_eq!(title.give_back("web-1"), b"\x1b]2;web-1\x07\x1b[23;2t");
        assert_eq!(title.give_back("web-1"), b"");
    }
}
