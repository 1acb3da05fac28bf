//! What the sign-in service of IAM Identity Center has registered, started and granted.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

/// What was registered, started and granted.
#[derive(Debug, Default)]
pub(crate) struct Sso(Mutex<Logins>);

#[derive(Debug, Default)]
pub(crate) struct Logins {
    /// Secrets by client id.
    pub(crate) clients: HashMap<String, String>,
    /// By device code.
    pub(crate) devices: HashMap<String, Device>,
    /// Ends by access token.
    pub(crate) tokens: HashMap<String, Timestamp>,
    /// Clients by refresh token.
    pub(crate) refresh: HashMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) client: String,
    pub(crate) user_code: String,
    pub(crate) answer: Answer,
    pub(crate) ends: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    None,
    Confirmed,
    Denied,
}

impl Sso {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Logins> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Codes that wait for an answer, the oldest first.
    pub(crate) fn codes(&self) -> Vec<String> {
        let state = self.lock();
        let mut waiting: Vec<_> = state
            .devices
            .values()
            .filter(|device| device.answer == Answer::None)
            .collect();
        waiting.sort_by_key(|device| device.ends);
        waiting
            .into_iter()
            .map(|device| device.user_code.clone())
            .collect()
    }

    /// Answers for the person at the page. False: no such code waits.
    pub(crate) fn answer(&self, user_code: &str, confirm: bool) -> bool {
        let mut state = self.lock();
        let device = state
            .devices
            .values_mut()
            .find(|device| device.user_code == user_code && device.answer == Answer::None);
        match device {
            Some(device) => {
                device.answer = if confirm {
                    Answer::Confirmed
                } else {
                    Answer::Denied
                };
                true
            }
            None => false,
        }
    }

    /// All logins are over.
    pub(crate) fn expire(&self) {
        let mut state = self.lock();
        state.tokens.clear();
        state.refresh.clear();
    }
}
