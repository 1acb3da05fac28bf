//! How many files and connections this process may have open.

/// Raises the soft limit of descriptors to the hard one.
///
/// The soft limit (often 1024, on macOS 256) is low for the sake of programs that use select(2). A
/// tunnel with many clients needs more, and whoever set the hard limit allows it.
#[cfg(unix)]
pub(crate) fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// The most that macOS takes where its hard limit says "unlimited". Source: `OPEN_MAX` in its
    /// sys/syslimits.h; setrlimit(2) there.
    const OPEN_MAX: u64 = 10_240;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raise = |to: Option<u64>| {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: to,
                maximum,
            },
        )
    };
    if current == maximum || raise(maximum).is_ok() {
        return;
    }
    let most = maximum.unwrap_or(OPEN_MAX).min(OPEN_MAX);
    if current.is_some_and(|current| current < most) {
        // What is allowed already has to do then.
        let _ = raise(Some(most));
    }
}

/// Other systems have no such limit.
#[cfg(not(unix))]
pub(crate) fn raise_limit() {}
