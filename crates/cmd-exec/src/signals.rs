//! Signals that `ops` gets go on to the commands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ops_remote::exec::{Signal, Signals};
use ops_ui::{Error, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

/// Passes SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 on to every command that was added,
/// for as long as it lives.
///
/// The dispatcher hears the same signals: it ends the process at the second one, and leaves the
/// first to whoever holds a handler of [`ops_ui::Interrupt`].
pub(crate) struct Relay {
    commands: Arc<Mutex<Commands>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Commands {
    all: Vec<Signals>,
    /// What came so far that asks a command to end, for commands that are added later.
    sent: Vec<Signal>,
}

/// Whether `signal` is an end for whoever begins later too. The other ones have the meaning that a
/// command gives them (dd counts, a server reads its logs anew), and end one that has just begun.
fn asks_for_an_end(signal: Signal) -> bool {
    !matches!(signal, Signal::User1 | Signal::User2)
}

fn lock(commands: &Mutex<Commands>) -> MutexGuard<'_, Commands> {
    commands.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system lets nobody listen.
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Error::unexpected("cannot listen for signals").caused_by(error))
        };
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        let mut quit = listen(SignalKind::quit())?;
        let mut user_1 = listen(SignalKind::user_defined1())?;
        let mut user_2 = listen(SignalKind::user_defined2())?;
        let commands = Arc::<Mutex<Commands>>::default();
        let told = commands.clone();
        let task = tokio::spawn(async move {
            loop {
                let signal = tokio::select! {
                    Some(()) = interrupt.recv() => Signal::Interrupt,
                    Some(()) = terminate.recv() => Signal::Terminate,
                    Some(()) = hang_up.recv() => Signal::HangUp,
                    Some(()) = quit.recv() => Signal::Quit,
                    Some(()) = user_1.recv() => Signal::User1,
                    Some(()) = user_2.recv() => Signal::User2,
                    else => return,
                };
                let mut commands = lock(&told);
                if asks_for_an_end(signal) {
                    commands.sent.push(signal);
                }
                for command in &commands.all {
                    command.send(signal);
                }
            }
        });
        Ok(Self { commands, task })
    }

    /// From now on signals reach this command too, and those that came before at once.
    pub(crate) fn add(&self, command: Signals) {
        let mut commands = lock(&self.commands);
        for &signal in &commands.sent {
            command.send(signal);
        }
        commands.all.push(command);
    }

    /// The first signal that came and asks the commands to end.
    pub(crate) fn first_end(&self) -> Option<Signal> {
        lock(&self.commands).sent.first().copied()
    }

    /// Asks all commands to end.
    pub(crate) fn terminate_all(&self) {
        for command in &lock(&self.commands).all {
            command.send(Signal::Terminate);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
