//! Faults to order: of the link between client and agent, of the gateway, and of API calls.

use std::{str::FromStr, time::Duration};

use serde_json::Value;

use crate::duration::{parse_bytes, parse_duration, parse_share};

/// What goes wrong, and how often. The default is nothing.
///
/// As text it is a list of `KEY` or `KEY=VALUE`, separated by commas:
///
/// | key | meaning |
/// |---|---|
/// | `seed=N` | of all that is random here; sessions differ by their number, not from run to run |
/// | `delay=20ms`, `jitter=5ms` | one-way delay of each message, and up to so much more |
/// | `drop=1%`, `duplicate=1%`, `reorder=1%` | shares of messages, each direction by itself |
/// | `drop-acks=1%` | share of acknowledgements lost, both directions |
/// | `garbage=1%` | share of messages to the client that have a malformed or unknown one before them |
/// | `max-parameter=4096` | StartSession refuses a parameter of more characters |
/// | `max-input=1024` | messages to the agent with a larger payload are lost |
/// | `max-frame=20KB[/close\|/reset\|/drop]` | a larger web socket message from the client, header included, closes the web socket with 1009, breaks it without a word, or is lost |
/// | `rate=600KB`, `queue=64KiB` | bytes a second each way, and how much waits before messages are dropped |
/// | `cut-after=N`, `cuts=K` | break the web socket without a close frame after N messages, K times (1) for each session |
/// | `first=N` | the faults of connections (these and those above) meet the next N sessions only |
/// | `end-after=N` | end the session, as TerminateSession by another caller does, after N messages |
/// | `end-text=TEXT` | what the service says of a session's end |
/// | `customer-message=TEXT` | what the account has to say to whoever begins a session |
/// | `bye-after=N` | close the web socket with 1000 `Bye` after N messages; counts into `cuts` |
/// | `refuse-resume[=gone\|timed-out\|N]` | ResumeSession says the session is gone, gives no token, or fails N times |
/// | `silent-after=N`, `silent-for=10s` | the agent hears and says nothing after N messages, for so long (for good) |
/// | `pauses` | while the agent is silent the gateway answers each message with `pause_publication` |
/// | `no-start` | the gateway sends no `start_publication` |
/// | `late-handshake=1s` | the agent acknowledges and drops input for so long before it begins its handshake |
/// | `odd-json` | handshake bodies have their keys in lower case, unknown ones, and `null` |
/// | `late-open=5ms` | the agent acknowledges and drops input for so long after it has said that the handshake is complete |
/// | `late-plugin=300ms` | the agent refuses input, without a word, for so long after the handshake |
/// | `slow-dial=2s` | the agent takes so long to connect to a destination, or to find that it cannot |
/// | `agent-version=X` | all agents say so and behave so |
/// | `strict` | the agent checks digests and lengths, which the official one does not |
/// | `standard-tier` | hybrid nodes are without the advanced tier, and take no sessions |
/// | `just-in-time` | callers may ask for access in place of having it |
/// | `document-check` | policies check the document of a session too |
/// | `refuse-dial[=signed\|all\|clock]` | the gateway refuses dials with 403: signed ones, all (the default), or all with words about the time |
/// | `stream-host=HOST` | stream URLs lead there |
/// | `kms=ARN` | sessions demand encryption with this key |
/// | `kms-state=disabled\|pending-deletion\|deleted` | no KMS key can be used, for this reason |
/// | `kms-skip` | agents ask for no key although sessions demand encryption |
/// | `kms-challenge=none\|required` | agents offer no text for the encryption context, or insist on it |
/// | `deny=ACTION[/RESOURCE]` | the call is refused: `ssm:StartSession/AWS-StartSSHSession`; may be repeated |
/// | `throttle=ACTION[/N]` | the next N (3) calls are told to slow down; may be repeated |
/// | `tps=ACTION/RATE[/BURST]` | more calls a second, in a region, are told to slow down; a burst is one second's worth; may be repeated; `off` for none |
/// | `fail=ACTION[/N]` | the next N (all) calls meet an internal error; may be repeated |
/// | `slow=ACTION/2s` | the call is answered late; may be repeated |
/// | `late-invocations=500ms` | so long after SendCommand nobody sees its nodes |
/// | `late-logs=500ms` | so long after an agent has sent them nobody sees events of CloudWatch Logs |
/// | `run-delay=2s`, `run-jitter=5s` | how long made-up machines take for a command, and up to so much more |
/// | `run-fail=3%` | share of made-up machines where commands fail |
/// | `deny-region=R` | every call to this region is refused; may be repeated |
/// | `expired` | temporary credentials have expired |
/// | `clock=10m` | the clock of the services is ahead by so much |
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    pub(crate) seed: u64,
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    pub(crate) drop: f64,
    pub(crate) duplicate: f64,
    pub(crate) reorder: f64,
    pub(crate) drop_acks: f64,
    pub(crate) garbage: f64,
    /// Bytes of payload.
    pub(crate) max_input: Option<u64>,
    /// Characters of one parameter of StartSession.
    pub(crate) max_parameter: Option<u64>,
    pub(crate) max_frame: Option<MaxFrame>,
    /// Bytes a second.
    pub(crate) rate: Option<u64>,
    pub(crate) queue_bytes: Option<u64>,
    pub(crate) cut_after: Option<u64>,
    pub(crate) bye_after: Option<u64>,
    pub(crate) end_after: Option<u64>,
    pub(crate) end_text: Option<String>,
    pub(crate) customer_message: Option<String>,
    pub(crate) cuts: Option<u64>,
    /// Sessions, counted from the order on, whose connections have these faults; `None` for all.
    pub(crate) first: Option<u64>,
    /// Sessions that there were before the order. Whoever takes the order fills it in.
    pub(crate) sessions_before: u64,
    pub(crate) refuse_resume: Option<RefuseResume>,
    pub(crate) silent_after: Option<u64>,
    pub(crate) silent_for: Option<Duration>,
    pub(crate) pauses: bool,
    pub(crate) no_start: bool,
    pub(crate) late_handshake: Duration,
    pub(crate) odd_json: bool,
    pub(crate) late_open: Duration,
    pub(crate) late_plugin: Duration,
    pub(crate) slow_dial: Duration,
    pub(crate) agent_version: Option<String>,
    pub(crate) strict: bool,
    pub(crate) standard_tier: bool,
    pub(crate) just_in_time: bool,
    pub(crate) document_check: bool,
    pub(crate) refuse_dial: Option<RefuseDial>,
    pub(crate) stream_host: Option<String>,
    pub(crate) kms_key: Option<String>,
    pub(crate) kms_state: Option<KeyState>,
    pub(crate) kms_skip: bool,
    pub(crate) kms_challenge: RandomChallenge,
    pub(crate) deny: Vec<String>,
    pub(crate) throttle: Vec<(String, u64)>,
    /// `None`: as the pace of the agents says.
    pub(crate) tps: Option<Vec<Rate>>,
    pub(crate) fail: Vec<(String, u64)>,
    pub(crate) slow: Vec<(String, Duration)>,
    pub(crate) late_invocations: Duration,
    pub(crate) late_logs: Duration,
    pub(crate) run_delay: Duration,
    pub(crate) run_jitter: Duration,
    pub(crate) run_fail: f64,
    pub(crate) deny_regions: Vec<String>,
    pub(crate) expired: bool,
    pub(crate) clock: Duration,
}

/// The largest web socket message that the gateway takes from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaxFrame {
    /// Of the whole message: header and payload.
    pub(crate) bytes: u64,
    pub(crate) otherwise: TooLarge,
}

/// What becomes of a message that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooLarge {
    /// The web socket is closed with 1009, "message too big".
    Close,
    /// It breaks without a close frame.
    Reset,
    /// Only the message is lost.
    Drop,
}

/// How often an action may be called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rate {
    pub(crate) action: String,
    /// Calls a second.
    pub(crate) per_second: f64,
    /// Calls at once after a pause.
    pub(crate) burst: f64,
}

impl Rate {
    /// Of a text such as `StartSession/3` or `StartSession/3/6`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let action = parts.next().filter(|action| !action.is_empty())?.to_owned();
        let number = |text: &str| {
            text.parse::<f64>()
                .ok()
                .filter(|n| n.is_finite() && *n > 0.0)
        };
        let per_second = number(parts.next()?)?;
        let burst = match parts.next() {
            Some(text) => number(text).filter(|burst| *burst >= 1.0)?,
            None => per_second.max(1.0),
        };
        parts.next().is_none().then_some(Self {
            action,
            per_second,
            burst,
        })
    }

    /// The documented quotas for an account and region. Source: "AWS Systems Manager endpoints and
    /// quotas" in the AWS General Reference; bursts are not documented.
    ///
    /// For the calls of Run Command no figures are published; those here are low ones, taken so
    /// that whoever keeps to them keeps to the real ones.
    pub(crate) fn documented() -> Vec<Self> {
        [
            ("StartSession", 3.0),
            ("TerminateSession", 6.0),
            ("ResumeSession", 6.0),
            ("DescribeSessions", 6.0),
            ("GetConnectionStatus", 50.0),
            ("SendCommand", 3.0),
            ("CancelCommand", 3.0),
            ("ListCommands", 5.0),
            ("ListCommandInvocations", 5.0),
            ("GetCommandInvocation", 5.0),
        ]
        .map(|(action, per_second)| Self {
            action: action.to_owned(),
            per_second,
            burst: per_second,
        })
        .into()
    }
}

/// Which dials of the gateway are refused with 403, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefuseDial {
    /// Those that carry a signature: the caller lacks `ssmmessages:OpenDataChannel`.
    Signed,
    /// All.
    All,
    /// All, and a signature is told to have expired.
    Clock,
}

/// What is wrong with every KMS key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyState {
    Disabled,
    PendingDeletion,
    Deleted,
}

/// What an agent does about the text `aws:ssm:RandomChallenge` of the encryption context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RandomChallenge {
    /// It is older than that.
    None,
    /// It offers a text, which the client may use.
    #[default]
    Offered,
    /// Its configuration says `RequireKMSChallengeResponse`.
    Required,
}

/// How ResumeSession is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefuseResume {
    /// `DoesNotExistException`.
    Gone,
    /// An answer without a token.
    TimedOut,
    /// So many internal errors, then as usual.
    Errors(u64),
}

/// A fault that nobody knows, or a value that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No fault of this name.
    #[error("no fault is called `{0}`; there are {KEYS}")]
    Unknown(String),
    /// The value does not fit.
    #[error("fault `{key}` cannot be `{value}`")]
    Value {
        /// The fault's name.
        key: String,
        /// What was given.
        value: String,
    },
}

/// All faults with their meanings, a line each: for the help of a command line.
pub const FAULTS_HELP: &str = "\
seed=N                 of all that is random here
delay=20ms jitter=5ms  one-way delay of each message, and up to so much more
drop=1%                share of messages lost, each direction by itself
duplicate=1%           share of messages that come twice
reorder=1%             share of messages that come up to 30 ms late
drop-acks=1%           share of acknowledgements lost
garbage=1%             share of messages to the client with a malformed or unknown one before them
max-parameter=4096     StartSession refuses a parameter of more characters
max-input=1024         messages to the agent with a larger payload are lost
max-frame=N[/HOW]      a larger message from the client closes the web socket with 1009 (close),
                       breaks it without a word (reset), or is lost (drop)
rate=600KB queue=64KiB bytes a second each way, and how much waits before messages are dropped
cut-after=N cuts=K     break the web socket after N messages, K times (1) for each session
bye-after=N            close it with 1000 `Bye` after N messages; counts into cuts
first=N                what is wrong with connections meets the next N sessions only
end-after=N            end the session after N messages, as TerminateSession by another caller does
end-text=TEXT          what the service says of a session's end
customer-message=TEXT  what the account has to say to whoever begins a session
refuse-resume=HOW      gone, timed-out, or a number of errors before it works
silent-after=N         the agent hears and says nothing after N messages
silent-for=10s         for so long (for good)
pauses                 meanwhile each message is answered with pause_publication
no-start               there is no start_publication
late-handshake=1s      the agent begins its handshake so late
odd-json               handshake bodies have keys in lower case, unknown ones, and null
late-open=5ms          the agent drops input for so long after it has completed the handshake
late-plugin=300ms      the agent refuses input for so long after the handshake
slow-dial=2s           the agent takes so long to connect to a destination
agent-version=X        all agents say so and behave so
strict                 agents check digests and lengths, which the official one does not
standard-tier          hybrid nodes are without the advanced tier, and take no sessions
just-in-time           callers may ask for access (ssm:StartAccessRequest), whatever else is denied
document-check         policies check the document of a session too (ssm:SessionDocumentAccessCheck)
refuse-dial=WHICH      the gateway refuses dials with 403: signed, all, or clock (all, with words about the time)
stream-host=HOST       stream URLs lead there
kms=ARN                sessions demand encryption with this key
kms-state=STATE        no KMS key can be used: disabled, pending-deletion, deleted
kms-skip               agents ask for no key although sessions demand encryption
kms-challenge=HOW      agents offer no text for the encryption context (none), or insist on it (required)
deny=ACTION[/RESOURCE] a call is refused: ssm:StartSession/AWS-StartSSHSession; may be repeated
throttle=ACTION[/N]    the next N (3) calls are told to slow down; may be repeated
tps=ACTION/RATE[/BURST] more calls a second in a region are told to slow down: StartSession/3; may be repeated; off for none
fail=ACTION[/N]        the next N (all) calls meet an internal error; may be repeated
slow=ACTION/2s         a call is answered late; may be repeated
late-invocations=500ms so long after SendCommand nobody sees its nodes
late-logs=500ms        so long after an agent has sent them nobody sees events of CloudWatch Logs
run-delay=2s           how long made-up machines take for a command of Run Command
run-jitter=5s          and up to so much more
run-fail=3%            share of made-up machines where such commands fail
deny-region=R          every call to this region is refused; may be repeated
expired                temporary credentials have expired
clock=10m              the clock of the services is ahead by so much";

const KEYS: &str = "seed, delay, jitter, drop, duplicate, reorder, drop-acks, garbage, max-input, max-parameter, max-frame, rate, queue, cut-after, bye-after, first, end-after, end-text, customer-message, cuts, refuse-resume, silent-after, silent-for, pauses, no-start, late-handshake, odd-json, late-open, late-plugin, slow-dial, agent-version, strict, standard-tier, just-in-time, document-check, refuse-dial, stream-host, kms, kms-state, kms-skip, kms-challenge, deny, throttle, tps, fail, slow, late-invocations, late-logs, run-delay, run-jitter, run-fail, deny-region, expired, clock";

impl Faults {
    /// Adds one fault, or replaces it.
    ///
    /// # Errors
    /// See [`FaultError`].
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), FaultError> {
        let wrong = || FaultError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let number = || value.parse::<u64>().map_err(|_| wrong());
        let share = || parse_share(value).ok_or_else(wrong);
        let duration = || parse_duration(value).ok_or_else(wrong);
        let bytes = || {
            parse_bytes(value)
                .filter(|bytes| *bytes > 0)
                .ok_or_else(wrong)
        };
        let switch = || match value {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(wrong()),
        };
        let text = || {
            Some(value.to_owned())
                .filter(|text| !text.is_empty())
                .ok_or_else(wrong)
        };
        // Behind the last slash stands the count; ARNs and document names in front may hold others.
        let counted = |default: u64| match value.rsplit_once('/') {
            Some((action, count)) => count
                .parse()
                .map(|count| (action.to_owned(), count))
                .map_err(|_| wrong()),
            None => text().map(|action| (action, default)),
        };
        match key {
            "seed" => self.seed = number()?,
            "delay" => self.delay = duration()?,
            "jitter" => self.jitter = duration()?,
            "drop" => self.drop = share()?,
            "duplicate" => self.duplicate = share()?,
            "reorder" => self.reorder = share()?,
            "drop-acks" => self.drop_acks = share()?,
            "garbage" => self.garbage = share()?,
            "max-input" => self.max_input = Some(bytes()?),
            "max-parameter" => self.max_parameter = Some(number()?),
            "max-frame" => {
                let (bytes, otherwise) = match value.split_once('/') {
                    None | Some((_, "close")) => (value, TooLarge::Close),
                    Some((bytes, "reset")) => (bytes, TooLarge::Reset),
                    Some((bytes, "drop")) => (bytes, TooLarge::Drop),
                    Some(_) => return Err(wrong()),
                };
                let bytes = bytes.trim_end_matches("/close");
                let bytes = parse_bytes(bytes).filter(|bytes| *bytes > 0);
                self.max_frame = Some(MaxFrame {
                    bytes: bytes.ok_or_else(wrong)?,
                    otherwise,
                });
            }
            "rate" => self.rate = Some(bytes()?),
            "queue" => self.queue_bytes = Some(bytes()?),
            "cut-after" => self.cut_after = Some(number()?),
            "bye-after" => self.bye_after = Some(number()?),
            "end-after" => self.end_after = Some(number()?),
            "end-text" => self.end_text = Some(text()?),
            "customer-message" => self.customer_message = Some(text()?),
            "cuts" => self.cuts = Some(number()?),
            "first" => self.first = Some(number()?),
            "refuse-resume" => {
                self.refuse_resume = Some(match value {
                    "" | "gone" | "true" => RefuseResume::Gone,
                    "timed-out" => RefuseResume::TimedOut,
                    _ => RefuseResume::Errors(number()?),
                });
            }
            "silent-after" => self.silent_after = Some(number()?),
            "silent-for" => self.silent_for = Some(duration()?),
            "pauses" => self.pauses = switch()?,
            "no-start" => self.no_start = switch()?,
            "late-handshake" => self.late_handshake = duration()?,
            "odd-json" => self.odd_json = switch()?,
            "late-open" => self.late_open = duration()?,
            "late-plugin" => self.late_plugin = duration()?,
            "slow-dial" => self.slow_dial = duration()?,
            "agent-version" => {
                let is_version = value.split('.').count() == 4
                    && value.split('.').all(|part| part.parse::<u32>().is_ok());
                if !is_version {
                    return Err(wrong());
                }
                self.agent_version = Some(value.to_owned());
            }
            "strict" => self.strict = switch()?,
            "standard-tier" => self.standard_tier = switch()?,
            "just-in-time" => self.just_in_time = switch()?,
            "document-check" => self.document_check = switch()?,
            "refuse-dial" => {
                self.refuse_dial = Some(match value {
                    "signed" => RefuseDial::Signed,
                    "" | "all" => RefuseDial::All,
                    "clock" => RefuseDial::Clock,
                    _ => return Err(wrong()),
                });
            }
            "stream-host" => self.stream_host = Some(text()?),
            "kms" => self.kms_key = Some(text()?),
            "kms-state" => {
                self.kms_state = Some(match value {
                    "disabled" => KeyState::Disabled,
                    "pending-deletion" => KeyState::PendingDeletion,
                    "deleted" => KeyState::Deleted,
                    _ => return Err(wrong()),
                });
            }
            "kms-skip" => self.kms_skip = switch()?,
            "kms-challenge" => {
                self.kms_challenge = match value {
                    "none" => RandomChallenge::None,
                    "required" => RandomChallenge::Required,
                    _ => return Err(wrong()),
                };
            }
            "deny" => self.deny.push(text()?),
            "throttle" => self.throttle.push(counted(3)?),
            "tps" if value == "off" => self.tps = Some(Vec::new()),
            "tps" => {
                let rate = Rate::parse(value).ok_or_else(wrong)?;
                self.tps.get_or_insert_default().push(rate);
            }
            "fail" => self.fail.push(counted(u64::MAX)?),
            "slow" => {
                let (action, delay) = value.rsplit_once('/').ok_or_else(wrong)?;
                let delay = parse_duration(delay).ok_or_else(wrong)?;
                self.slow.push((action.to_owned(), delay));
            }
            "late-invocations" => self.late_invocations = duration()?,
            "late-logs" => self.late_logs = duration()?,
            "run-delay" => self.run_delay = duration()?,
            "run-jitter" => self.run_jitter = duration()?,
            "run-fail" => self.run_fail = share()?,
            "deny-region" => self.deny_regions.push(text()?),
            "expired" => self.expired = switch()?,
            "clock" => self.clock = duration()?,
            _ => return Err(FaultError::Unknown(key.to_owned())),
        }
        Ok(())
    }

    /// Adds the faults of a text.
    ///
    /// # Errors
    /// See [`FaultError`].
    pub fn add(&mut self, text: &str) -> Result<(), FaultError> {
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            self.set(key.trim(), value.trim())?;
        }
        Ok(())
    }

    /// Faults from JSON: a text, a list of texts, or an object of `KEY: value` (a list of values
    /// repeats the key).
    pub(crate) fn from_json(body: &Value) -> Result<Self, FaultError> {
        let mut faults = Self::default();
        match body {
            Value::String(text) => faults.add(text)?,
            Value::Array(list) => {
                for text in list.iter().filter_map(Value::as_str) {
                    faults.add(text)?;
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::Null => {}
                        Value::Array(list) => {
                            for value in list {
                                faults.set(key, &plain(value))?;
                            }
                        }
                        value => faults.set(key, &plain(value))?,
                    }
                }
            }
            Value::Null => {}
            other => return Err(FaultError::Unknown(other.to_string())),
        }
        Ok(faults)
    }

    /// Whether the connections of the session with this number, counted from 0, have these faults.
    pub(crate) fn meet_session(&self, number: u64) -> bool {
        self.first
            .is_none_or(|count| number < self.sessions_before.saturating_add(count))
    }

    /// No action has a rate of its own.
    pub(crate) fn sets_no_rates(&self) -> bool {
        self.tps.as_ref().is_none_or(Vec::is_empty)
    }

    /// Messages pass as they are and at once.
    pub(crate) fn leave_messages_alone(&self) -> bool {
        self.delay.is_zero()
            && self.jitter.is_zero()
            && self.drop == 0.0
            && self.duplicate == 0.0
            && self.reorder == 0.0
            && self.drop_acks == 0.0
            && self.garbage == 0.0
            && self.max_input.is_none()
            && self.rate.is_none()
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl FromStr for Faults {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut faults = Self::default();
        faults.add(text)?;
        Ok(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_text_and_json_alike() {
        let text: Faults = "seed=7,delay=20ms,drop=1%,rate=600KB/s,refuse-resume=2,deny=ssm:StartSession/AWS-StartSSHSession,throttle=ec2:DescribeInstances/5"
            .parse()
            .unwrap();
        let json = Faults::from_json(&serde_json::json!({
            "seed": 7, "delay": "20ms", "drop": "1%", "rate": 600_000, "refuse-resume": 2,
            "deny": ["ssm:StartSession/AWS-StartSSHSession"], "throttle": "ec2:DescribeInstances/5",
        }))
        .unwrap();
        assert_eq!(text, json);
        assert_eq!(text.refuse_resume, Some(RefuseResume::Errors(2)));
        assert_eq!(text.throttle, [("ec2:DescribeInstances".to_owned(), 5)]);
        assert!(!text.leave_messages_alone());
        assert!(Faults::default().leave_messages_alone());
    }

    #[test]
    fn a_largest_frame_says_what_becomes_of_a_larger_one() {
        for (text, bytes, otherwise) in [
            ("max-frame=20000", 20_000, TooLarge::Close),
            ("max-frame=4KiB/close", 4096, TooLarge::Close),
            ("max-frame=4KiB/reset", 4096, TooLarge::Reset),
            ("max-frame=4KiB/drop", 4096, TooLarge::Drop),
        ] {
            let faults: Faults = text.parse().unwrap();
            assert_eq!(faults.max_frame, Some(MaxFrame { bytes, otherwise }));
        }
        for text in ["max-frame", "max-frame=0", "max-frame=4KiB/keep"] {
            assert!(text.parse::<Faults>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_has_a_burst_of_one_second_unless_it_is_given() {
        let faults: Faults = "tps=StartSession/3,tps=ResumeSession/6/10".parse().unwrap();
        let rates = faults.tps.expect("rates");
        assert_eq!((rates[0].per_second, rates[0].burst), (3.0, 3.0));
        assert_eq!((rates[1].per_second, rates[1].burst), (6.0, 10.0));
        assert_eq!("tps=off".parse::<Faults>().unwrap().tps, Some(Vec::new()));
        for wrong in [
            "tps=StartSession",
            "tps=StartSession/0",
            "tps=/3",
            "tps=StartSession/3/0.5",
            "tps=a/1/2/3",
        ] {
            assert!(wrong.parse::<Faults>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_help_names_every_fault() {
        for key in KEYS.split(", ") {
            let is_named = FAULTS_HELP
                .split_whitespace()
                .any(|word| word.split(['=', '[']).next() == Some(key));
            assert!(is_named, "{key}");
        }
    }

    #[test]
    fn a_fault_that_cannot_be_is_refused_by_name() {
        assert_eq!(
            "drop=200%".parse::<Faults>(),
            Err(FaultError::Value {
                key: "drop".to_owned(),
                value: "200%".to_owned()
            })
        );
        let error = "explode".parse::<Faults>().unwrap_err();
        assert!(error.to_string().contains("cut-after"), "{error}");
    }
}
