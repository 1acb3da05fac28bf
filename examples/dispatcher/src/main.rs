//! All of `ops`, with one command more. Outside of this repository the binary is called `ops` too.

use ops::Group;

/// What help shows under a heading of its own.
static OWN: &[Group] = &[Group {
    title: "Our own",
    crates: &[example_cmd_owner::COMMANDS],
}];

fn main() -> std::process::ExitCode {
    ops::main_with(OWN)
}
