//! The scripts of a run as they are sent.

use super::{folder::Folder, order::PreparedCommand, position::Position, text::as_format};
use crate::{
    pipe,
    script::{compact, fill_in},
};

/// Makes the folder, or finds it.
const BEGIN: &str = include_str!("scripts/begin.sh");
/// Before that, where the engine's text comes with it; `ENGINE` is where that goes.
const START: &str = include_str!("scripts/start.sh");
/// Everything else.
const ENGINE: [&str; 3] = [
    include_str!("scripts/engine.sh"),
    include_str!("scripts/output.sh"),
    include_str!("scripts/input.sh"),
];
/// One of its roles once more, behind it in the same file, for `perl -x`.
pub(super) const SUPERVISE: &str = include_str!("scripts/supervise.pl");
/// What stands around it. No shell runs anything behind `exit`, and one that reads all of its text
/// first, as ksh93 does, takes it for a document.
const AROUND_PERL: [&str; 2] = ["exit\n: <<\\PERL\n#!perl\n", "__END__\nPERL\n"];
/// What of it is one program for all frames of an input, where the server has perl.
pub(super) const INPUT_PROGRAM: &str = include_str!("scripts/input.pl");
/// The line of `input.sh` that becomes [`INPUT_PROGRAM`].
const INPUT_PROGRAM_MARK: &str = "INPUT_PL";
/// How both programs of perl begin.
pub(super) const NOTES: &str = include_str!("scripts/notes.pl");
/// In the place of all that, where nothing can be written.
const DIRECT: &str = include_str!("scripts/direct.sh");

/// The line of [`START`] that becomes the text of [`ENGINE`].
const ENGINE_MARK: &str = "\nENGINE\n";

fn engine() -> String {
    let program = |text| [NOTES, text].map(compact).concat();
    let input = within_double_quotes(&program(INPUT_PROGRAM));
    let shell = fill_in(&ENGINE.map(compact).concat(), INPUT_PROGRAM_MARK, &input);
    let [before, after] = AROUND_PERL;
    shell + before + &program(SUPERVISE) + after
}

/// `text` as it has to be between double quotes in a shell.
fn within_double_quotes(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        if matches!(c, '\\' | '$' | '"' | '`') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

/// The text of [`BEGIN`] for the `turn`th session of the run of `order` in `folder`, with `engine`
/// or without.
fn begin_with(order: &PreparedCommand, folder: &Folder, turn: u32, engine: Option<&str>) -> String {
    let mut text = format!(
        "name={}\nturn={turn}\nbrings_engine={}\nreads_input={}\n",
        folder.name(),
        u8::from(engine.is_some()),
        u8::from(order.input)
    );
    if let Some(engine) = engine {
        let engine = format!("\n{}", within_double_quotes(engine));
        text.push_str(&compact(START).replacen(ENGINE_MARK, &engine, 1));
    }
    text + &compact(BEGIN)
}

/// A session that starts the command: makes the folder, starts the command if `order` may travel in
/// a parameter of the document, and attaches. Where a session before this one has done a part of
/// that, this one does the rest.
pub(super) fn begin(order: &PreparedCommand, folder: &Folder, turn: u32, linger: bool) -> String {
    let mut script = begin_with(order, folder, turn, Some(&engine()));
    script.push_str("if [ -n \"$d\" ]; then\n");
    if order.is_open() {
        let mut put = |file: &str, bytes: &[u8]| {
            script.push_str(&format!(
                "write_{file}() {{ printf \"{}\"; }}\nput {file}\n",
                as_format(bytes)
            ));
        };
        put("command", &order.command);
        if let Some(bytes) = &order.script {
            put("script", bytes);
        }
        script.push_str(&format!("launch {}\n", order.settings()));
    }
    script.push_str(&format!(
        "printf \"!folder %s\\n\" \"$d\"\n\
         set -- attach \"$d\" \"$turn\" 0 0 0 0 {}\n\
         . \"$d/engine\"\nfi\n\
         printf \"!nowhere\\n\"\n",
        u8::from(linger)
    ));
    // Where nothing can be written nobody can tell whether the session before has run the command.
    if turn == 1 && order.is_open() && !order.needs_folder() {
        // In double quotes a line feed at the end would be lost; there is none that matters.
        script.push_str(&format!(
            "command=$(printf \"{}\")\n{}{}",
            as_format(&order.command),
            pipe::scripts::watched(),
            compact(DIRECT)
        ));
    }
    script
}

/// Sets $d to the run's folder. It is empty where that has gone: somebody else may have made one of
/// the same name then, and what lies there would be run.
fn find(folder: &Folder) -> String {
    let (places, name) = match folder.path() {
        Some(path) => (format!("\"{path}\""), String::new()),
        None => (
            "\"${TMPDIR:-/tmp}\" /tmp /var/tmp /dev/shm \"$HOME\"".to_owned(),
            format!("/{}", folder.name()),
        ),
    };
    format!(
        "d=\n\
         for place in {places}; do\n\
         place=$place{name}\n\
         if [ -d \"$place\" ] && [ ! -h \"$place\" ] && [ -O \"$place\" ]; then d=$place; break; fi\n\
         done\n"
    )
}

/// Attaches, once the engine is there (a [`bootstrap`] may still bring it), to the run in `folder`
/// as its `turn`th client, whose bytes end at `out` and `err`.
pub(super) fn attach(
    folder: &Folder,
    turn: u32,
    out: &Position,
    err: &Position,
    linger: bool,
) -> String {
    format!(
        "{}n=0\n\
         while [ -d \"$d\" ] && [ ! -e \"$d/engine\" ] && [ \"$n\" -lt 100 ]; do n=$((n + 1)); sleep 0.1 || sleep 1; done\n\
         [ -e \"$d/engine\" ] || {{ printf \"!gone\\n\"; exit 1; }}\n\
         exec sh \"$d/engine\" attach \"$d\" {turn} {} {} {} {} {}\n",
        find(folder),
        out.segment,
        out.offset,
        err.segment,
        err.offset,
        u8::from(linger)
    )
}

/// Reads the command's input and orders from a terminal, and with `positions` attaches there too.
pub(super) fn enter(
    folder: &Folder,
    turn: u32,
    positions: Option<(&Position, &Position)>,
) -> String {
    let positions = match positions {
        None => String::new(),
        Some((out, err)) => format!(
            "{} {} {} {}",
            out.segment, out.offset, err.segment, err.offset
        ),
    };
    format!(
        "cd \"$HOME\" 2>/dev/null || cd /\n\
         {}[ -e \"$d/engine\" ] || {{ printf \"!gone\\n\"; exit 1; }}\n\
         exec sh \"$d/engine\" enter \"$d\" {turn} {positions}\n",
        find(folder)
    )
}

/// Makes the folder from a terminal, reads the engine's text from there, and goes on as [`enter`]
/// does, attached there too if `attach` says so. Gives the script, and the text to send once the
/// folder is told.
pub(super) fn bootstrap(
    order: &PreparedCommand,
    folder: &Folder,
    turn: u32,
    attach: bool,
) -> (String, String) {
    let engine = engine();
    let len = engine.len();
    let mut script = String::from("stty raw -echo || exit 1\n");
    script.push_str(&begin_with(order, folder, turn, None));
    // A session that is lost before the engine is there leaves nothing that could end the run. The
    // folder stays for a minute all the same: the session in its place may be about to use it.
    script.push_str(&format!(
        "[ -n \"$d\" ] || {{ printf \"!nowhere\\n\"; exit 1; }}\n\
         clean() {{ sleep 60; [ -e \"$d/engine\" ] || rm -rf \"$d\"; }}\n\
         clean_later() {{ (trap \"\" HUP INT TERM; clean) </dev/null >/dev/null 2>&1 & }}\n\
         trap clean_later EXIT\n\
         trap \"exit 1\" HUP TERM\n\
         printf \"!folder %s\\n\" \"$d\"\n\
         mask=\"mask=$mask\"\n\
         {{ echo \"$mask\"; head -c {len}; }} >\"$d/part.$turn\"\n\
         [ \"$(wc -c <\"$d/part.$turn\")\" -eq $((${{#mask}} + 1 + {len})) ] || exit 1\n\
         mv \"$d/part.$turn\" \"$d/engine\"\n\
         trap - EXIT HUP TERM\n\
         exec sh \"$d/engine\" enter \"$d\" \"$turn\" {}\n",
        if attach { "0 0 0 0" } else { "" }
    ));
    (script, engine)
}

/// Does what `role` says to the run in `folder`, if there is still one: a role of the engine, and
/// what follows the folder in its words.
pub(super) fn tell(folder: &Folder, role: &str) -> String {
    let (role, rest) = role.split_once(' ').unwrap_or((role, ""));
    let mut script = format!(
        "{}if [ -e \"$d/engine\" ] && [ -p \"$d/life\" ]; then sh \"$d/engine\" {role} \"$d\" {rest}\n",
        find(folder)
    );
    if role == "end" {
        // Its session was lost before it had brought the whole engine.
        script.push_str("elif [ -n \"$d\" ]; then rm -rf \"$d\"\n");
    }
    script.push_str("fi\n");
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Command, Request};

    /// By the API's model no parameter has more than 65,535 characters.
    #[test]
    fn a_long_command_and_the_text_around_it_fit_into_a_parameter() {
        let line = vec![b'x'; (12 << 10) - 256];
        let order = PreparedCommand::new(&Request::new(Command::Line(line))).unwrap();
        assert!(order.is_open());
        let text = begin(&order, &Folder::new().unwrap(), 1, true);
        assert!(text.len() < 65_535, "{}", text.len());
    }

    #[test]
    fn what_travels_in_a_command_holds_no_single_quote() {
        for text in [BEGIN, START, &engine(), DIRECT] {
            assert!(!compact(text).contains('\''));
        }
        assert_eq!(compact(START).matches(ENGINE_MARK).count(), 1);
    }
}
