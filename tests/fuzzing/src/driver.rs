//! Mutates the corpora for a while: `fuzz-for-a-while SECONDS [TARGET]`. What panics is written to
//! the folder for temporary files.
//!
//! No coverage guides it, so it is no replacement for cargo-fuzz; it finds in a minute what lies
//! near the corpora, with a stable compiler.

use std::{
    hash::{BuildHasher as _, RandomState},
    panic::catch_unwind,
    process::ExitCode,
    time::{Duration, Instant},
};

use ops_fuzzing::{TARGETS, corpus};

/// Longest input, in bytes.
const MAX_BYTES: usize = 64 << 10;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let seconds = words
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(60);
    let only = words.next();
    let chosen: Vec<_> = TARGETS
        .iter()
        .filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name))
        .collect();
    let Some(share) =
        Duration::from_secs(seconds).checked_div(u32::try_from(chosen.len()).unwrap_or(1))
    else {
        eprintln!("no target of that name; there are:");
        for (name, _) in TARGETS {
            eprintln!("  {name}");
        }
        return ExitCode::from(2);
    };
    let seed = RandomState::new().hash_one(seconds) | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut failed = false;
    for (name, target) in chosen {
        let seeds: Vec<Vec<u8>> = std::fs::read_dir(corpus(name))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path()).ok())
            .collect();
        let until = Instant::now() + share;
        let mut runs = 0_u64;
        while Instant::now() < until {
            let input = random.mutated(&seeds);
            runs += 1;
            if catch_unwind(|| target(&input)).is_err() {
                let path = std::env::temp_dir().join(format!("ops-fuzz-{name}-{seed}-{runs}"));
                match std::fs::write(&path, &input) {
                    Ok(()) => eprintln!("{name}: a panic, its input is {}", path.display()),
                    Err(error) => eprintln!("{name}: a panic, its input cannot be kept: {error}"),
                }
                failed = true;
                break;
            }
        }
        println!("{name}: {runs} inputs");
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// xorshift64*: not for secrets, the same from the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`, which is at least 1.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// A byte that bounds are often missed at, or any.
    fn byte(&mut self) -> u8 {
        const TELLING: [u8; 12] = [
            0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b'\'', b'\\', b'/', b':', b'.',
        ];
        match self.below(3) {
            0 => TELLING[self.below(TELLING.len())],
            _ => self.next().to_le_bytes()[0],
        }
    }

    fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = match seeds.len() {
            0 => Vec::new(),
            count => seeds[self.below(count)].clone(),
        };
        for _ in 0..=self.below(8) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 => {
                    let byte = self.byte();
                    if let Some(old) = bytes.get_mut(at) {
                        *old = byte;
                    }
                }
                1 => bytes.insert(at, self.byte()),
                2 => {
                    let end = (at + self.below(16)).min(bytes.len());
                    bytes.drain(at.min(end)..end);
                }
                3 => {
                    // A number: its four bytes at once.
                    let number = [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX][self.below(5)];
                    for (old, new) in bytes.iter_mut().skip(at).zip(number.to_be_bytes()) {
                        *old = new;
                    }
                }
                4 => {
                    let end = (at + self.below(64)).min(bytes.len());
                    let piece = bytes[at.min(end)..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    if let Some(other) = seeds.get(self.below(seeds.len())) {
                        let from = self.below(other.len() + 1);
                        let end = (from + self.below(64)).min(other.len());
                        bytes.splice(at..at, other[from..end].iter().copied());
                    }
                }
            }
            bytes.truncate(MAX_BYTES);
        }
        bytes
    }
}
