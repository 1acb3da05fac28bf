//! What the benchmarks share: `ops` as a child process over a sandbox in another, what a process
//! has used, and a report with its tables.
//!
//! Each benchmark is a program: `cargo run --release -p ops-bench --bin NAME`. It prints ratios
//! within one run; the figures of two runs on a busy machine cannot be compared. With
//! `OPS_BENCH_RECORD=1` it keeps them in `RESULTS.md`: see [`report`]. Benchmarks begin with
//! [`stage::act`], because they are `ops` too.

pub mod report;
pub mod stage;
pub mod table;
pub mod usage;
