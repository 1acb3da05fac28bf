//! How far the pages of a list are followed, and how much of them is held.
//!
//! A service decides how many pages there are. One that answers with a token for ever, by fault or
//! by malice, must end in an error and not in a command that never ends or takes all memory.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    time::Duration,
};

use ops_profile::Instance;
use ops_ui::{Error, Result};

/// Pages of one list of one region. EC2 gives up to a thousand instances a page, so that this is
/// half a million of them.
pub(super) const EC2_PAGES: usize = 500;
/// Pages of one list of agents of one region, fifty each.
pub(super) const SSM_PAGES: usize = 10_000;
/// Longest time that the list of one region may take. `--timeout` shortens it.
pub(super) const LIST_LIMIT: Duration = Duration::from_secs(600);
/// What the rows of one region may take in memory, in bytes; a row of a usual instance with all its
/// tags takes some 1.5 kB.
const HELD_BYTES: usize = 1 << 30;
/// What a row takes beside its texts, in bytes, generously.
const ROW_BYTES: usize = 400;

/// The pages of one list.
pub(crate) struct Pages {
    /// Operation that gives them, for the error.
    operation: &'static str,
    most: usize,
    fetched: usize,
    held_bytes: usize,
    /// Hashes of the tokens so far: a token names a place in the list, so that one seen twice is a
    /// circle.
    tokens: HashSet<u64>,
}

impl Pages {
    /// At most `most` pages of `operation`.
    pub(crate) fn of(operation: &'static str, most: usize) -> Self {
        Self {
            operation,
            most,
            fetched: 0,
            held_bytes: 0,
            tokens: HashSet::new(),
        }
    }

    /// The token for the page after the one that brought `token`; `None` after the last page.
    ///
    /// # Errors
    /// A token that was there before; more pages than any account has.
    pub(crate) fn next(&mut self, token: Option<String>) -> Result<Option<String>> {
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Ok(None);
        };
        self.fetched += 1;
        let mut hasher = DefaultHasher::new();
        token.hash(&mut hasher);
        if !self.tokens.insert(hasher.finish()) {
            return Err(self.endless("it gave the same NextToken twice"));
        }
        if self.fetched >= self.most {
            return Err(self.endless(&format!("it has more than {} pages", self.most)));
        }
        Ok(Some(token))
    }

    /// Counts a row that is kept.
    ///
    /// # Errors
    /// The rows take more memory than the list of a region may.
    pub(super) fn hold(&mut self, row: &Instance) -> Result<()> {
        self.held_bytes += ROW_BYTES + text_bytes(row);
        if self.held_bytes > HELD_BYTES {
            let bound = format!("its rows take more than {} MiB of memory", HELD_BYTES >> 20);
            return Err(self.endless(&bound));
        }
        Ok(())
    }

    fn endless(&self, why: &str) -> Error {
        Error::unexpected("the list of instances does not end")
            .caused_by(format!("{}: {why}", self.operation))
            .hint("narrow the list by a pattern, --tag or --filter; a proxy or a wrong endpoint may have answered: check AWS_ENDPOINT_URL")
    }
}

/// The texts of `row`, in bytes.
fn text_bytes(row: &Instance) -> usize {
    let texts = [
        &row.name,
        &row.zone,
        &row.instance_type,
        &row.private_ip,
        &row.private_dns,
        &row.public_ip,
        &row.vpc,
        &row.platform,
        &row.agent_version,
        &row.image,
    ];
    let tags = row.tags.iter();
    row.id.len()
        + row.region.len()
        + texts.into_iter().flatten().map(String::len).sum::<usize>()
        // Two texts in a node of the tree.
        + tags.map(|(key, value)| 64 + key.len() + value.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_list_ends_where_there_is_no_token() {
        let mut pages = Pages::of("DescribeInstances", 3);
        assert_eq!(pages.next(token("a")).expect("a page"), token("a"));
        assert_eq!(pages.next(None).expect("the end"), None);
        assert_eq!(pages.next(token("")).expect("the end"), None);
    }

    #[test]
    fn a_circle_of_tokens_is_an_error() {
        let mut pages = Pages::of("DescribeInstances", 99);
        for text in ["a", "b"] {
            pages.next(token(text)).expect("a page");
        }
        let error = pages.next(token("a")).expect_err("a circle");
        assert!(
            error.why()[0].contains("the same NextToken twice"),
            "{error}"
        );
    }

    #[test]
    fn tokens_without_end_are_an_error() {
        let mut pages = Pages::of("DescribeInstances", 3);
        for text in ["a", "b"] {
            pages.next(token(text)).expect("a page");
        }
        let error = pages.next(token("c")).expect_err("too many");
        assert!(error.why()[0].contains("more than 3 pages"), "{error}");
    }

    #[test]
    fn rows_are_held_up_to_a_bound_in_bytes() {
        let mut pages = Pages::of("DescribeInstances", 3);
        let mut row = Instance::bare("i-0a1b2c3d4e5f60718", "eu-west-1");
        row.tags.insert("Name".to_owned(), "x".repeat(1 << 20));
        let error = (0..2000).find_map(|_| pages.hold(&row).err());
        let error = error.expect("2 GB are too much");
        assert!(error.why()[0].contains("1024 MiB"), "{error}");
    }
}
