//! All that is wrong with a file, not the first thing alone: what is wrong is taken out of its
//! tree, and the rest is looked at again.

use ops_ui::{
    Error,
    yaml::{Node, Problem},
};

use crate::report;

/// Mistakes told of one file at most.
const MOST: usize = 50;

/// The mistakes met so far.
pub(crate) struct Mistakes {
    /// What the file is, such as "a team profile".
    what: &'static str,
    told: Vec<Error>,
    /// Paths of what was taken out. Whoever misses it afterwards has no mistake of their own.
    taken_out: Vec<Vec<String>>,
}

impl Mistakes {
    pub(crate) fn in_file(what: &'static str) -> Self {
        Self {
            what,
            told: Vec::new(),
            taken_out: Vec::new(),
        }
    }

    pub(crate) fn tell(&mut self, error: Error) {
        // A profile that two others extend is met twice.
        let is_told = self
            .told
            .iter()
            .any(|told| told.what() == error.what() && told.why() == error.why());
        if !is_told && self.told.len() < MOST {
            self.told.push(error);
        }
    }

    /// Tells of `problem` and takes what has it out of `tree`; whether it is worth looking again.
    pub(crate) fn take_out(&mut self, tree: &mut Node, problem: &Problem) -> bool {
        let path = problem.place.as_ref().and_then(|place| tree.remove(place));
        let lacks_what_was_taken = path.as_ref().is_some_and(|path| {
            let is_below =
                |taken: &Vec<String>| taken.len() > path.len() && taken.starts_with(path);
            self.taken_out.iter().any(is_below)
        });
        if !lacks_what_was_taken {
            self.tell(report::error(problem, self.what));
        }
        self.taken_out.extend(path.clone());
        path.is_some() && self.told.len() < MOST
    }

    /// Looks at `tree` until `look` finds nothing more, and gives what it makes of the rest; `None`
    /// where a mistake cannot be taken out.
    pub(crate) fn gather<T>(
        &mut self,
        tree: &mut Node,
        look: impl Fn(&Node) -> Result<T, Problem>,
    ) -> Option<T> {
        loop {
            match look(tree) {
                Ok(read) => return Some(read),
                Err(problem) if self.take_out(tree, &problem) => {}
                Err(_) => return None,
            }
        }
    }

    pub(crate) fn into_errors(self) -> Vec<Error> {
        self.told
    }
}
