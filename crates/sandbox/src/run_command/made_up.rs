//! How made-up machines answer: one real process for all of them, whose output they share, and a
//! plan that says who takes how long and who fails.

use std::{sync::Arc, time::Duration};

use tokio::sync::OnceCell;

use super::{World, delivery::Answer};
use crate::{
    agent::{run_command, run_command::Script},
    faults::Faults,
    fleet::Instance,
};

/// The answer that the made-up machines of one command share.
#[derive(Debug, Default)]
pub(super) struct SharedAnswer(OnceCell<Option<Answer>>);

impl SharedAnswer {
    /// That of a real process, run once.
    pub(super) async fn get(
        &self,
        world: &World,
        instance: &Instance,
        script: &Script,
    ) -> Option<Answer> {
        let run = || async {
            let state = world.states.of(instance);
            let cancel = world.cancel.child_token();
            let ran = run_command::run(script, instance, &state, &cancel).await;
            Answer::of(ran.ok()?).ok()
        };
        self.0.get_or_init(run).await.clone()
    }
}

/// What a made-up machine does with a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) fails: bool,
    pub(super) takes: Duration,
}

/// The plan of a made-up machine.
pub(super) fn plan(faults: &Faults, instance: &Instance) -> Plan {
    // The same machine does the same under the same seed: a digest of its id is as good as chance.
    let digest = crate::sigv4::sha256_hex(format!("{}{}", faults.seed, instance.id).as_bytes());
    let part = |range: std::ops::Range<usize>| {
        let number = u32::from_str_radix(&digest[range], 16).unwrap_or_default();
        f64::from(number) / f64::from(u32::MAX)
    };
    Plan {
        fails: part(0..8) < faults.run_fail,
        takes: faults.run_delay + faults.run_jitter.mul_f64(part(8..16)),
    }
}

/// The answer of a machine that was chosen to fail.
pub(super) fn failure() -> Answer {
    Answer {
        verdict: run_command::Verdict::Failed,
        code: 1,
        stdout: Arc::from(""),
        stderr: Arc::from("this node was chosen to fail\nfailed to run commands: exit status 1"),
        took: Duration::ZERO,
    }
}
