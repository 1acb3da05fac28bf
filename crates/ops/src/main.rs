//! The binary; everything is in the library, so that tests can link it too.

fn main() -> std::process::ExitCode {
    ops::main()
}
