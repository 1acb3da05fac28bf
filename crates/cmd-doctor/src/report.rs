//! Findings as they come: shown at once on a terminal, in order elsewhere, and as a document.

use std::sync::{Mutex, PoisonError};

use ops_core::diagnosis::Permissions;
use ops_ui::{Exit, Format, Hint, Output, Result, Text, style::Style};
use serde_json::{Value, json};

use crate::finding::{Finding, ORDER, Outcome};

/// Columns of the outcome, the longest of which is `skipped`.
const OUTCOME_COLUMNS: usize = 7;
/// Between the name of a check and its text.
const GAP: &str = "  ";
/// Columns of the names of checks: those of the longest, so that each stands apart from its text.
const CHECK_COLUMNS: usize = {
    let (mut longest, mut at) = (0, 0);
    while at < ORDER.len() {
        if ORDER[at].len() > longest {
            longest = ORDER[at].len();
        }
        at += 1;
    }
    longest
};

/// Everything that was found so far.
pub(crate) struct Report<'a> {
    output: &'a Output,
    found: Mutex<Found>,
    /// Whether lines have to tell of which server they are.
    has_several: bool,
}

#[derive(Default)]
struct Found {
    findings: Vec<Finding>,
    /// The first line that could not be written: the reader has gone.
    failure: Option<ops_ui::Error>,
    policy: Option<Value>,
    private_names: Vec<String>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(output: &'a Output, targets: usize) -> Self {
        Self {
            output,
            found: Mutex::default(),
            has_several: targets > 1,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_shown_at_once(&self) -> bool {
        self.output.stdout_is_terminal() && is_for_people(self.output.format())
    }

    /// Takes a finding, and shows it where somebody watches.
    pub(crate) fn add(&self, finding: Finding) {
        let mut found = self.lock();
        // What is about the account is told once, however many servers it was asked for.
        let is_known = |known: &Finding| known.target.is_none() && known.check == finding.check;
        if finding.target.is_none() && found.findings.iter().any(is_known) {
            return;
        }
        if self.is_shown_at_once()
            && found.failure.is_none()
            && let Err(error) = self.show(&finding)
        {
            found.failure = Some(error);
        }
        found.findings.push(finding);
    }

    /// Takes the policy that allows what is missing in `region`.
    pub(crate) fn add_policy(&self, permissions: &Permissions, region: &str) {
        self.lock().policy = permissions.policy_to_add(region);
    }

    /// Notes names of servers and roles that belong to nobody else.
    pub(crate) fn note_names<'n>(&self, names: impl IntoIterator<Item = &'n str>) {
        let names = names.into_iter().map(str::to_owned);
        self.lock().private_names.extend(names);
    }

    /// Names that a report for others has to leave out.
    pub(crate) fn private_names(&self) -> Vec<String> {
        self.lock().private_names.clone()
    }

    /// What is found, in order.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = self.lock().findings.clone();
        findings.sort_by(|one, other| {
            let of = |finding: &Finding| (finding.target.clone(), finding.place());
            of(one).cmp(&of(other))
        });
        findings
    }

    fn show(&self, finding: &Finding) -> Result<()> {
        let (word, style) = match finding.outcome {
            Outcome::Ok => ("ok", Style::Good),
            Outcome::Warn => ("warn", Style::Warn),
            Outcome::Fail => ("fail", Style::Bad),
            Outcome::Skipped => ("skipped", Style::Dim),
        };
        let mut line = Text::from(format!("{:<CHECK_COLUMNS$}{GAP}", finding.check));
        if let Some(target) = finding.target.as_ref().filter(|_| self.has_several) {
            line = line.then(format!("{target}: "));
        }
        let indent = OUTCOME_COLUMNS + 1 + CHECK_COLUMNS + GAP.len();
        let mark = format!("{word:<OUTCOME_COLUMNS$}");
        self.output
            .marked_line(&mark, style, line.then(&finding.text), indent)?;
        if matches!(finding.outcome, Outcome::Fail | Outcome::Warn) {
            for remedy in &finding.remedies {
                self.show_remedy(remedy, indent)?;
            }
        }
        Ok(())
    }

    fn show_remedy(&self, remedy: &Hint, indent: usize) -> Result<()> {
        let mark = format!("{:>indent$}", "→");
        self.output
            .marked_line(&mark, Style::Accent, Text::from(remedy.clone()), indent + 1)
    }

    /// Writes what was not shown yet, and gives the exit code: 0 where nothing fails, 7 where a
    /// server is there and cannot be reached, else 1.
    ///
    /// # Errors
    /// A closed pipe.
    pub(crate) fn finish(&self) -> Result<Exit> {
        let was_shown = self.is_shown_at_once();
        if let Some(error) = self.lock().failure.take() {
            return Err(error);
        }
        let findings = self.findings();
        match self.output.format() {
            Format::Json => self.output.json(&self.document(&findings))?,
            Format::Yaml => self.output.yaml(&self.document(&findings))?,
            Format::Name => {
                for finding in findings.iter().filter(|f| f.outcome == Outcome::Fail) {
                    self.output.line(finding.cause.unwrap_or(finding.check))?;
                }
            }
            _ => {
                for finding in findings.iter().filter(|_| !was_shown) {
                    self.show(finding)?;
                }
                if let Some(policy) = &self.lock().policy {
                    self.output.line("")?;
                    self.output.line("policy to add:")?;
                    self.output.json(policy)?;
                }
            }
        }
        Ok(exit(&findings))
    }

    /// The document of `-o json`; docs/doctor.md describes it.
    pub(crate) fn document(&self, findings: &[Finding]) -> Value {
        let worst = findings.iter().map(|finding| finding.outcome).max();
        json!({
            "apiVersion": "ops/v1",
            "kind": "Diagnosis",
            "outcome": worst.unwrap_or(Outcome::Skipped),
            "causes": causes(findings),
            "checks": findings,
            "policy": self.lock().policy,
        })
    }
}

/// The causes of what fails, the likeliest of each server first, each once.
pub(crate) fn causes(findings: &[Finding]) -> Vec<&'static str> {
    let mut causes = Vec::new();
    // What names a cause says more than the check that only shows it.
    for outcome in [Outcome::Fail, Outcome::Warn] {
        for finding in findings.iter().filter(|finding| finding.outcome == outcome) {
            if let Some(cause) = finding.cause.filter(|cause| !causes.contains(cause)) {
                causes.push(cause);
            }
        }
    }
    causes
}

/// Whether `format` is read by people, line by line.
fn is_for_people(format: Format) -> bool {
    matches!(format, Format::Table | Format::Wide)
}

fn exit(findings: &[Finding]) -> Exit {
    let fails = |finding: &&Finding| finding.outcome == Outcome::Fail;
    if !findings.iter().any(|finding| fails(&finding)) {
        return Exit::SUCCESS;
    }
    // A server that is not there is a question of its name, not of the way to it.
    let is_unreached = findings
        .iter()
        .filter(fails)
        .any(|finding| finding.target.is_some() && finding.check != "found");
    match is_unreached {
        true => Exit::UNREACHABLE,
        false => Exit::UNEXPECTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_tells_a_server_that_cannot_be_reached_from_everything_else() {
        let fail = |check| Finding {
            outcome: Outcome::Fail,
            ..Finding::ok(check, "")
        };
        assert_eq!(exit(&[Finding::ok("clock", "")]), Exit::SUCCESS);
        assert_eq!(
            exit(&[Finding::warn("agent", "").about("a")]),
            Exit::SUCCESS
        );
        assert_eq!(exit(&[fail("clock")]), Exit::UNEXPECTED);
        assert_eq!(exit(&[fail("found").about("a")]), Exit::UNEXPECTED);
        assert_eq!(
            exit(&[fail("clock"), fail("role").about("a")]),
            Exit::UNREACHABLE
        );
    }
}
