//! The signals that ask a program to stop.
//!
//! Every signal that would end the process by itself is heard, as far as a program may hear it:
//! whatever ends `ops`, the terminal is restored first and sessions end at the service. What is
//! left out are SIGKILL, which nobody hears, and the signals of a program that went wrong (SIGSEGV,
//! SIGBUS, SIGILL, SIGFPE), where going on would repeat the fault for ever. What was ignored when
//! the process began stays ignored, as `nohup` and `trap '' XFSZ` of a shell mean it, where the
//! system tells that: on Linux.

use std::sync::atomic::{AtomicI32, Ordering};

use ops_ui::{Error, ErrorKind, Exit, Result};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The number of the signal that asked first; 0 for none yet.
static ASKED: AtomicI32 = AtomicI32::new(0);

/// The signals that ask from now on; none of them ends the process by itself any more.
pub(crate) struct Signals {
    #[cfg(unix)]
    asking: Vec<SignalListener>,
    /// A signal that insists has been seen.
    heard: bool,
}

/// A signal that is listened to.
#[cfg(unix)]
struct SignalListener {
    number: i32,
    kind: ErrorKind,
    insists: bool,
    signal: Signal,
}

/// What is listened to, and whether a second one of them ends the process at once.
#[cfg(unix)]
fn signal_numbers() -> impl Iterator<Item = (i32, bool)> {
    use rustix::process::Signal as Number;
    // A hang-up does not insist: ssh sends one after its ProxyCommand whatever else has arrived
    // there, and a terminal that closes may send two.
    let usual = [
        (Number::INT, true),
        (Number::TERM, true),
        (Number::QUIT, true),
        (Number::HUP, false),
        (Number::USR1, true),
        (Number::USR2, true),
        (Number::ALARM, true),
        (Number::VTALARM, true),
        (Number::PROF, true),
        (Number::XCPU, true),
        (Number::XFSZ, true),
        (Number::ABORT, true),
        (Number::TRAP, true),
        (Number::SYS, true),
        #[cfg(target_os = "linux")]
        (Number::IO, true),
        #[cfg(target_os = "linux")]
        (Number::POWER, true),
        #[cfg(target_os = "linux")]
        (Number::STKFLT, true),
    ];
    // Linux's real-time signals end a process too. The C library keeps the first ones for itself.
    let real_time = cfg!(target_os = "linux").then_some(35..=64);
    usual
        .into_iter()
        .map(|(number, insists)| (number.as_raw(), insists))
        .chain(real_time.into_iter().flatten().map(|number| (number, true)))
}

/// The place of a signal in a mask of the kernel's.
#[cfg(unix)]
fn signal_bit(number: i32) -> u64 {
    u32::try_from(number - 1)
        .ok()
        .and_then(|shift| 1_u64.checked_shl(shift))
        .unwrap_or(0)
}

/// The signals that this process ignores, bit by bit; none where the system does not tell.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // SIGPIPE is ignored by the standard library, and is none of those that are listened to.
    ignored_of(&status)
}

/// The mask of ignored signals in the text of `/proc/PID/status`.
#[cfg(unix)]
fn ignored_of(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

impl Signals {
    /// Begins to listen; must be called within the runtime.
    ///
    /// # Errors
    /// The system refuses one of the signals that a terminal or `kill` sends.
    pub(crate) fn listen() -> Result<Self> {
        #[cfg(unix)]
        {
            let mut asking = Vec::new();
            let ignored = ignored_signals();
            for (number, insists) in signal_numbers() {
                if ignored & signal_bit(number) != 0 {
                    continue;
                }
                let kind = if number == SignalKind::interrupt().as_raw_value() {
                    ErrorKind::Interrupted
                } else {
                    ErrorKind::Terminated
                };
                match signal(SignalKind::from_raw(number)) {
                    Ok(signal) => asking.push(SignalListener {
                        number,
                        kind,
                        insists,
                        signal,
                    }),
                    // Some systems lack the less usual ones.
                    Err(_) if number > SignalKind::terminate().as_raw_value() => {}
                    Err(error) => {
                        return Err(Error::unexpected("cannot listen for signals").caused_by(error));
                    }
                }
            }
            Ok(Self {
                asking,
                heard: false,
            })
        }
        #[cfg(not(unix))]
        Ok(Self { heard: false })
    }

    /// The next one, as the error it becomes.
    pub(crate) async fn next(&mut self) -> ErrorKind {
        #[cfg(unix)]
        {
            let (kind, insists) = self.receive().await;
            self.heard |= insists;
            kind
        }
        #[cfg(not(unix))]
        match tokio::signal::ctrl_c().await {
            Ok(()) => {
                self.heard = true;
                ErrorKind::Interrupted
            }
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes the next signal for the first one.
    pub(crate) fn forget(&mut self) {
        self.heard = false;
        #[cfg(unix)]
        ASKED.store(0, Ordering::Relaxed);
    }

    /// Ends when somebody insists: at the second signal of all that insist.
    pub(crate) async fn insisting(&mut self) -> ErrorKind {
        loop {
            let before = self.heard;
            #[cfg(unix)]
            let (kind, insists) = self.receive().await;
            #[cfg(not(unix))]
            let (kind, insists) = (self.next().await, true);
            if !insists {
                continue;
            }
            self.heard = true;
            if before {
                return kind;
            }
        }
    }

    #[cfg(unix)]
    async fn receive(&mut self) -> (ErrorKind, bool) {
        std::future::poll_fn(|task| {
            for asking in &mut self.asking {
                if asking.signal.poll_recv(task).is_ready() {
                    // The first one decides the exit status.
                    let _ = ASKED.compare_exchange(
                        0,
                        asking.number,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                    return std::task::Poll::Ready((asking.kind, asking.insists));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// The exit status for a stop that a signal asked for: 128 and its number, as a shell tells of a
/// process that it ended. A hang-up counts as SIGTERM.
pub(crate) fn exit_by_signal(kind: ErrorKind) -> Exit {
    let number = ASKED.load(Ordering::Relaxed);
    let hang_up = rustix::process::Signal::HUP.as_raw();
    match u8::try_from(number) {
        Ok(number @ 1..=64) if i32::from(number) != hang_up => Exit::of(128 + number),
        _ => kind.exit(),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status_of_a_process() {
        // As Linux shows a process that `nohup` has started, with SIGPIPE ignored too.
        let status = "Name:\tops\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        let ignored = ignored_of(status);
        assert_ne!(
            ignored & signal_bit(rustix::process::Signal::HUP.as_raw()),
            0
        );
        assert_eq!(
            ignored & signal_bit(rustix::process::Signal::INT.as_raw()),
            0
        );
        assert_eq!(ignored_of("Name:\tops\n"), 0);
    }
}
