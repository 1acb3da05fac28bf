//! The private folder of a run on its server.

use ops_ui::{Error, Result};

use crate::pipe;

/// Random bytes of a folder's name.
const NAME_BYTES: usize = 16;

/// The folder of a run: its name is ours, so that a second session finds what a first one has made
/// without having told of it; where it lies is the server's choice.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    name: String,
    /// Where it is, once a session has told.
    path: Option<String>,
}

impl Folder {
    /// One that nobody else has.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            name: format!("ops-exec.{}", random_hex(NAME_BYTES)?),
            path: None,
        })
    }

    /// Its name, without the folder it lies in. Letters, digits, a full stop and a dash.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a session has told where it is.
    pub(super) fn is_told(&self) -> bool {
        self.path.is_some()
    }

    /// A session has told where it is.
    ///
    /// # Errors
    /// A path that cannot stand in a script.
    pub(super) fn told(&mut self, path: &str) -> Result<()> {
        // Once: it goes into scripts.
        if self.path.is_none() {
            self.path = Some(pipe::folder(path)?.to_owned());
        }
        Ok(())
    }

    /// Where it is, or the name alone: for `scripts::find`.
    pub(super) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }
}

/// So many random bytes in hexadecimal digits.
///
/// # Errors
/// The system gives none.
pub(super) fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    // From the system. The generator of aws-lc gathers noise for tens of milliseconds before its
    // first number, which is a good part of a short command.
    getrandom::fill(&mut random)
        .map_err(|_| Error::unexpected("the system gives no random numbers"))?;
    Ok(ops_ui::text::hex(&random))
}
