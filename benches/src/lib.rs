//! What the benchmarks share: `ops` as a child process over a sandbox in another, what a process
//! has used, and a table.
//!
//! Each benchmark is a program: `cargo run --release -p ops-bench --bin NAME`. It prints ratios
//! within one run; the figures of two runs on a busy machine cannot be compared. Benchmarks begin
//! with [`stage::act`], because they are `ops` too.

pub mod stage;
pub mod table;
pub mod usage;
