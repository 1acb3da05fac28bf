//! `--state` of commands that list.

use std::str::FromStr;

use ops_profile::State;

/// A value of `--state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFilter {
    /// Instances in this state.
    One(State),
    /// Instances in every state but terminated.
    All,
}

const STATES: [State; 6] = [
    State::Pending,
    State::Running,
    State::Stopping,
    State::Stopped,
    State::ShuttingDown,
    State::Terminated,
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
                    STATES.map(State::as_str).join(", ")
                )
            })
    }
}

impl StateFilter {
    /// What it is written as, for completion.
    pub const NAMES: &[&str] = &[
        State::Pending.as_str(),
        State::Running.as_str(),
        State::Stopping.as_str(),
        State::Stopped.as_str(),
        State::ShuttingDown.as_str(),
        State::Terminated.as_str(),
        "all",
    ];

    /// The states that `filters` mean together.
    pub fn states(filters: &[Self]) -> Vec<State> {
        STATES
            .into_iter()
            .filter(|state| {
                filters.iter().any(|filter| match filter {
                    Self::One(one) => one == state,
                    Self::All => *state != State::Terminated,
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
        assert!(!states("all").contains(&State::Terminated));
        assert_eq!(states("all,terminated").len(), 6);
        assert_eq!(states("stopped,running"), [State::Running, State::Stopped]);
        assert!("runing".parse::<StateFilter>().is_err());
    }
}
