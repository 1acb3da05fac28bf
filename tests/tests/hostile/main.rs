//! Names, texts and files whose writers want to drive the terminal of whoever reads them, or to
//! have a command of theirs copied.

mod names;
mod screen;

const OPS: &str = env!("CARGO_BIN_EXE_ops-under-test");
