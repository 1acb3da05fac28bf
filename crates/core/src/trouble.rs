//! What the user hears of a connection that is lost or an agent that is silent: once for a server, however many sessions meet it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ops_session::driver::Event;

use crate::{context::Context, output::Output};

/// Sessions of a server that are in trouble now; clones count the same.
#[derive(Clone, Debug, Default)]
pub struct Troubled(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    lost: AtomicUsize,
    silent: AtomicUsize,
}

/// The troubles of one session.
pub struct Trouble {
    all: Troubled,
    output: Output,
    label: String,
    is_lost: bool,
    is_silent: bool,
}

impl Trouble {
    /// None yet; `label` is the server's.
    pub fn new(all: &Troubled, cx: &Context, label: &str) -> Self {
        Self {
            all: all.clone(),
            output: cx.output().clone(),
            label: label.to_owned(),
            is_lost: false,
            is_silent: false,
        }
    }

    /// Tells of an event that begins or ends one.
    pub fn hear(&mut self, event: &Event) {
        let Counts { lost, silent } = &*self.all.0;
        let label = &self.label;
        let text = match event {
            Event::Disconnected { reason } if begins(&mut self.is_lost, lost) => {
                format!("connection lost ({reason}), resuming")
            }
            Event::Reconnecting { why: Some(why), .. } => {
                let text = format!("{label}: not back yet, trying on: {why}");
                return self.output.detail(text);
            }
            Event::Resumed if ends(&mut self.is_lost, lost) => {
                "resumed, nothing was lost".to_owned()
            }
            Event::AgentSilent { waited } if begins(&mut self.is_silent, silent) => {
                format!("the agent has not answered for {} s", waited.as_secs())
            }
            Event::AgentBack if ends(&mut self.is_silent, silent) => {
                "the agent answers again".to_owned()
            }
            _ => return,
        };
        self.output.note(format!("{label}: {text}"));
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        ends(&mut self.is_lost, &self.all.0.lost);
        ends(&mut self.is_silent, &self.all.0.silent);
    }
}

/// Whether it is the first.
fn begins(own: &mut bool, all: &AtomicUsize) -> bool {
    !std::mem::replace(own, true) && all.fetch_add(1, Ordering::Relaxed) == 0
}

/// Whether it was the last.
fn ends(own: &mut bool, all: &AtomicUsize) -> bool {
    std::mem::take(own) && all.fetch_sub(1, Ordering::Relaxed) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_begins_and_the_last_ends() {
        let all = AtomicUsize::default();
        let (mut one, mut other) = (false, false);
        assert!(begins(&mut one, &all));
        assert!(!begins(&mut one, &all) && !begins(&mut other, &all));
        assert!(!ends(&mut one, &all) && !ends(&mut one, &all));
        assert!(ends(&mut other, &all));
        assert!(begins(&mut one, &all));
    }
}
