//! What whoever confirms a command gets to see of it, beside the servers.

use ops_core::guard::{WorkLine, words_line};
use ops_ui::{Hint, Text};

use crate::hosts::Host;

/// Whom sessions run as where nobody is named. Which of the two, the account's preferences say, and
/// whoever runs commands need not be allowed to read these.
const USER_OF_SESSIONS: &str = "the user of sessions (ssm-user, or the account's Run As)";

/// How the command reaches the servers, and whom it runs as there.
pub(crate) enum Way<'a> {
    Sessions,
    /// By Run Command, as these users.
    RunCommand {
        users: &'a str,
    },
}

/// What is about to be run.
pub(crate) struct PlannedRun<'a> {
    /// As a shell would take it.
    pub(crate) command: Hint,
    pub(crate) is_script: bool,
    /// `--document`.
    pub(crate) document: Option<&'a str>,
    /// `--cwd`.
    pub(crate) cwd: Option<&'a str>,
    /// Names of its variables; their values are nobody's business.
    pub(crate) variables: Vec<String>,
    pub(crate) way: Way<'a>,
}

impl PlannedRun<'_> {
    /// A line for each thing that is known of it.
    pub(crate) fn lines(self, hosts: &[Host]) -> Vec<WorkLine> {
        let mut lines = Vec::new();
        if let Some(name) = self.document {
            lines.push(("document:", Text::from(name.to_owned())));
        }
        if !self.command.is_empty() {
            let label = if self.is_script {
                "script:"
            } else {
                "command:"
            };
            lines.push(words_line(label, &self.command));
        }
        if let Some(cwd) = self.cwd {
            lines.push(("folder:", Text::from(cwd.to_owned())));
        }
        if !self.variables.is_empty() {
            lines.push(("variables:", Text::from(self.variables.join(", "))));
        }
        lines.push(("runs as:", self.way.users(hosts)));
        lines
    }
}

impl Way<'_> {
    fn users(&self, hosts: &[Host]) -> Text {
        match self {
            Self::RunCommand { users } => Text::from(format!("{users}, by Run Command")),
            Self::Sessions => {
                let mut users: Vec<&str> = hosts
                    .iter()
                    .map(|host| host.user.as_deref().unwrap_or(USER_OF_SESSIONS))
                    .collect();
                users.sort_unstable();
                users.dedup();
                Text::from(users.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ops_profile::Instance;

    use super::*;

    fn host(user: Option<&str>) -> Host {
        Host {
            instance: Instance::bare("i-0123456789abcdef0", "eu-west-1"),
            user: user.map(str::to_owned),
            label: "web-1".to_owned(),
        }
    }

    fn run(command: &[&str]) -> PlannedRun<'static> {
        PlannedRun {
            command: Hint::command(command.iter().copied()),
            is_script: false,
            document: None,
            cwd: None,
            variables: Vec::new(),
            way: Way::Sessions,
        }
    }

    fn told(run: PlannedRun<'_>, hosts: &[Host]) -> Vec<String> {
        let lines = run.lines(hosts).into_iter();
        lines
            .map(|(label, value)| format!("{label} {value}"))
            .collect()
    }

    #[test]
    fn a_command_is_told_with_its_users_folder_and_variables() {
        let mut planned = run(&["rm", "-rf", "a b", "\x1b[2K\n"]);
        planned.cwd = Some("/srv/app");
        planned.variables = vec!["TOKEN".to_owned()];
        let hosts = [host(Some("deploy")), host(None), host(Some("deploy"))];
        assert_eq!(
            told(planned, &hosts),
            [
                r"command: rm -rf 'a b' $'\033[2K\012'".to_owned(),
                "folder: /srv/app".to_owned(),
                "variables: TOKEN".to_owned(),
                format!("runs as: deploy, {USER_OF_SESSIONS}"),
            ]
        );
        let planned = PlannedRun {
            way: Way::RunCommand { users: "root" },
            document: Some("AWS-RunPatchBaseline"),
            ..run(&[])
        };
        assert_eq!(
            told(planned, &hosts),
            [
                "document: AWS-RunPatchBaseline",
                "runs as: root, by Run Command"
            ]
        );
    }
}
