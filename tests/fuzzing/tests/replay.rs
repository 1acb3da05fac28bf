//! Every input of the corpora, on stable.

use ops_fuzzing::{TARGETS, corpus};

#[test]
fn every_input_of_the_corpora_is_read_without_a_panic() {
    for (name, target) in TARGETS {
        let entries = std::fs::read_dir(corpus(name)).unwrap_or_else(|error| {
            panic!("{}: {error}", corpus(name).display());
        });
        let mut inputs = 0;
        for entry in entries {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("an input");
            // libtest shows this where the target panics.
            println!("{}", path.display());
            target(&bytes);
            // Cut anywhere, as a connection may be.
            for len in (0..bytes.len()).step_by(bytes.len() / 64 + 1) {
                target(&bytes[..len]);
            }
            inputs += 1;
        }
        assert!(inputs > 0, "the corpus of {name} is empty");
    }
}
