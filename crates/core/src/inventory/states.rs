//! `--state` of commands that list.

use std::str::FromStr;

use ops_profile::InstanceState;

/// A value of `--state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFilter {
    /// Instances in this state.
    One(InstanceState),
    /// Instances in every state but terminated.
    All,
}

const STATES: [InstanceState; 6] = [
    InstanceState::Pending,
    InstanceState::Running,
    InstanceState::Stopping,
    InstanceState::Stopped,
    InstanceState::ShuttingDown,
    InstanceState::Terminated,
];

impl FromStr for StateFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        STATES
            .into_iter()
            .find(|state| state.as_str() == text)
            .map(Self::One)
            .ok_or_else(|| {
                format!(
                    "`{}` is no state; there are {} and all",
                    text.escape_debug(),
                    STATES.map(InstanceState::as_str).join(", ")
                )
            })
    }
}

impl StateFilter {
    /// What it is written as, for completion.
    pub const NAMES: &[&str] = &[
        InstanceState::Pending.as_str(),
        InstanceState::Running.as_str(),
        InstanceState::Stopping.as_str(),
        InstanceState::Stopped.as_str(),
        InstanceState::ShuttingDown.as_str(),
        InstanceState::Terminated.as_str(),
        "all",
    ];

    /// The states that `filters` mean together.
    pub fn states(filters: &[Self]) -> Vec<InstanceState> {
        STATES
            .into_iter()
            .filter(|state| {
                filters.iter().any(|filter| match filter {
                    Self::One(one) => one == state,
                    Self::All => *state != InstanceState::Terminated,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_leaves_terminated_out_unless_it_is_named() {
        let parse = |text: &str| -> Vec<StateFilter> {
            text.split(',').map(|one| one.parse().expect(one)).collect()
        };
        let states = |text: &str| StateFilter::states(&parse(text));
        assert!(!states("all").contains(&InstanceState::Terminated));
        assert_eq!(states("all,terminated").len(), 6);
        assert_eq!(
            states("stopped,running"),
            [InstanceState::Running, InstanceState::Stopped]
        );
        assert!("runing".parse::<StateFilter>().is_err());
    }
}
