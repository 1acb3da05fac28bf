//! The scripts of a run as they are sent.

use super::{order::PreparedCommand, position::Position, text::as_format};
use crate::script::compact;

/// Makes the folder; `ENGINE` in it is where the engine's text goes.
const BEGIN: &str = include_str!("scripts/begin.sh");
/// Everything else.
const ENGINE: &str = include_str!("scripts/engine.sh");
/// In the place of all that, where nothing can be written.
const DIRECT: &str = include_str!("scripts/direct.sh");

/// The line of [`BEGIN`] that becomes the text of [`ENGINE`].
const ENGINE_MARK: &str = "\nENGINE\n";

/// The first session: makes the folder, starts the command if `order` may travel in a parameter of
/// the document, and attaches.
pub(super) fn begin(order: &PreparedCommand, linger: bool) -> String {
    let engine = compact(ENGINE);
    let mut script = compact(BEGIN).replacen(ENGINE_MARK, &format!("\n{engine}"), 1);
    script.push_str("if [ -n \"$d\" ]; then\n");
    if order.is_open() {
        script.push_str(&format!(
            "printf \"{}\" >\"$d/command\"\n",
            as_format(&order.command)
        ));
        if let Some(bytes) = &order.script {
            script.push_str(&format!("printf \"{}\" >\"$d/script\"\n", as_format(bytes)));
        }
        script.push_str(&format!(
            "{{ sh \"$d/engine\" launch \"$d\" {}; }} 2>/dev/null\n",
            order.settings()
        ));
    }
    script.push_str(&format!(
        "printf \"!folder %s\\n\" \"$d\"\n\
         set -- attach \"$d\" 1 0 0 0 0 {}\n\
         . \"$d/engine\"\nfi\n\
         printf \"!nowhere\\n\"\n",
        u8::from(linger)
    ));
    if order.is_open() && !order.needs_folder() {
        // In double quotes a line feed at the end would be lost; there is none that matters.
        script.push_str(&format!(
            "command=$(printf \"{}\")\n{}",
            as_format(&order.command),
            compact(DIRECT)
        ));
    }
    script
}

/// Attaches, once the engine is there (a [`bootstrap`] may still bring it), to the run in `folder`
/// as its `turn`th client, whose bytes end at `out` and `err`.
pub(super) fn attach(
    folder: &str,
    turn: u32,
    out: &Position,
    err: &Position,
    linger: bool,
) -> String {
    format!(
        "d=\"{folder}\"\n\
         n=0\n\
         while [ -d \"$d\" ] && [ ! -e \"$d/engine\" ] && [ \"$n\" -lt 100 ]; do n=$((n + 1)); sleep 0.1 || sleep 1; done\n\
         [ -e \"$d/engine\" ] || {{ printf \"!gone\\n\"; exit 1; }}\n\
         exec sh \"$d/engine\" attach \"$d\" {turn} {} {} {} {} {}\n",
        out.segment,
        out.offset,
        err.segment,
        err.offset,
        u8::from(linger)
    )
}

/// Reads the command's input and orders from a terminal, and with `positions` attaches there too.
pub(super) fn enter(folder: &str, turn: u32, positions: Option<(&Position, &Position)>) -> String {
    let positions = match positions {
        None => String::new(),
        Some((out, err)) => format!(
            "{} {} {} {}",
            out.segment, out.offset, err.segment, err.offset
        ),
    };
    format!(
        "cd \"$HOME\" 2>/dev/null || cd /\n\
         d=\"{folder}\"\n\
         [ -e \"$d/engine\" ] || {{ printf \"!gone\\n\"; exit 1; }}\n\
         exec sh \"$d/engine\" enter \"$d\" {turn} {positions}\n"
    )
}

/// Makes the folder from a terminal, reads the engine's text from there, and goes on as [`enter`]
/// does, attached there too if `attach` says so. Gives the script, and the text to send once the
/// folder is told.
pub(super) fn bootstrap(attach: bool) -> (String, String) {
    let engine = compact(ENGINE);
    let mut script = String::from("stty raw -echo || exit 1\n");
    script.push_str(&compact(BEGIN).replacen(ENGINE_MARK, "\n", 1));
    script.push_str(&format!(
        "[ -n \"$d\" ] || {{ printf \"!nowhere\\n\"; exit 1; }}\n\
         rm \"$d/engine\"\n\
         printf \"!folder %s\\n\" \"$d\"\n\
         head -c {} >\"$d/part\"\n\
         mv \"$d/part\" \"$d/engine\"\n\
         exec sh \"$d/engine\" enter \"$d\" 1 {}\n",
        engine.len(),
        if attach { "0 0 0 0" } else { "" }
    ));
    (script, engine)
}

/// Sends a signal to the command in `folder`, or ends it: `role` and what follows.
pub(super) fn tell(folder: &str, role: &str) -> String {
    format!("[ ! -e \"{folder}/engine\" ] || sh \"{folder}/engine\" {role}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_in_a_command_holds_no_single_quote() {
        for text in [BEGIN, ENGINE, DIRECT] {
            assert!(!compact(text).contains('\''));
        }
        assert_eq!(compact(BEGIN).matches(ENGINE_MARK).count(), 1);
    }
}
