//! The binary that end-to-end tests run: `ops` itself, built as a program of this package so that
//! Cargo tells tests where it is.

fn main() -> std::process::ExitCode {
    ops::main()
}
