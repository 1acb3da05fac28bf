//! What the sign-in service of IAM Identity Center has registered, started and granted.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

/// Of registrations, codes and tokens so many are kept, each; nobody has to sign anything to ask
/// for one, so the oldest goes for a new one.
const MAX_KEPT: usize = 1000;

/// What was registered, started and granted.
#[derive(Debug, Default)]
pub(crate) struct Sso(Mutex<Logins>);

#[derive(Debug, Default)]
pub(crate) struct Logins {
    /// By client id.
    pub(crate) clients: Newest<Client>,
    /// By device code.
    pub(crate) devices: Newest<Device>,
    /// By the code that a person confirms.
    pub(crate) authorizations: Newest<Authorization>,
    /// By authorization code: the code that was confirmed for it.
    pub(crate) codes: Newest<String>,
    /// By access token.
    pub(crate) tokens: Newest<AccessToken>,
    /// Clients by refresh token.
    pub(crate) refresh: Newest<String>,
}

/// The newest [`MAX_KEPT`] values, by random keys that are never used twice.
#[derive(Debug)]
pub(crate) struct Newest<T> {
    values: HashMap<String, T>,
    /// Keys from the oldest on. Those of values that were removed stay until their turn comes.
    order: VecDeque<String>,
}

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T> Newest<T> {
    pub(crate) fn insert(&mut self, key: String, value: T) {
        while self.order.len() >= MAX_KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.values.remove(&oldest);
            }
        }
        self.order.push_back(key.clone());
        self.values.insert(key, value);
    }

    pub(crate) fn get(&self, key: &str) -> Option<&T> {
        self.values.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut T> {
        self.values.get_mut(key)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&String, &T)> {
        self.values.iter()
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<T> {
        self.values.remove(key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.values()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.values_mut()
    }

    pub(crate) fn clear(&mut self) {
        self.values.clear();
        self.order.clear();
    }
}

/// A registered program.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) secret: String,
    /// Empty: it has not said, and may use any.
    pub(crate) grant_types: Vec<String>,
    pub(crate) redirect_uris: Vec<String>,
}

/// What lets its holder have credentials.
#[derive(Clone, Debug)]
pub(crate) struct AccessToken {
    pub(crate) ends: Timestamp,
    /// That it was given with.
    pub(crate) refresh: String,
}

/// A browser that waits for somebody to log in.
#[derive(Clone, Debug)]
pub(crate) struct Authorization {
    pub(crate) client: String,
    pub(crate) redirect_uri: String,
    pub(crate) state: String,
    /// Of PKCE, by the method `S256`.
    pub(crate) challenge: String,
    pub(crate) answer: Answer,
    pub(crate) ends: Timestamp,
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
        let devices = state
            .devices
            .values()
            .filter(|device| device.answer == Answer::None)
            .map(|device| (device.ends, device.user_code.clone()));
        let browsers = state
            .authorizations
            .entries()
            .filter(|(_, browser)| browser.answer == Answer::None)
            .map(|(code, browser)| (browser.ends, code.clone()));
        let mut waiting: Vec<_> = devices.chain(browsers).collect();
        waiting.sort();
        waiting.into_iter().map(|(_, code)| code).collect()
    }

    /// Answers for the person at the page. False: no such code waits.
    pub(crate) fn answer(&self, user_code: &str, confirm: bool) -> bool {
        let mut state = self.lock();
        let given = if confirm {
            Answer::Confirmed
        } else {
            Answer::Denied
        };
        if let Some(browser) = state.authorizations.get_mut(user_code)
            && browser.answer == Answer::None
        {
            browser.answer = given;
            return true;
        }
        let device = state
            .devices
            .values_mut()
            .find(|device| device.user_code == user_code && device.answer == Answer::None);
        match device {
            Some(device) => {
                device.answer = given;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_registrations_the_newest_are_kept() {
        let mut kept = Newest::default();
        for number in 0..5 * MAX_KEPT {
            kept.insert(number.to_string(), number);
            // A code that is used at once takes no place for long.
            if number % 2 == 0 {
                kept.remove(&number.to_string());
            }
            assert!(kept.order.len() <= MAX_KEPT && kept.values.len() <= MAX_KEPT);
        }
        let last = 5 * MAX_KEPT - 1;
        assert_eq!(kept.get(&last.to_string()), Some(&last));
        assert_eq!(kept.get("1"), None);
    }
}
