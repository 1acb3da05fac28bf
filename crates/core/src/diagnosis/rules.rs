//! The one table of what goes wrong with sessions: what the user meets, which checks show it, what
//! the cause is, what to do.
//!
//! A rule reads [`Facts`] and nothing else, so that the same words come from `ops doctor` and from
//! the error of any command. Sources: "Troubleshooting managed node availability" and
//! "Troubleshooting Session Manager" of the Systems Manager user guide, and the checks of
//! `ssm-cli get-diagnostics` in the public amazon-ssm-agent.

use ops_ui::{Hint, Text};

use super::{
    facts::Facts,
    readings::{
        agent_silent, agent_too_old, clock_skew, egress_closed, endpoint_closed, endpoint_missing,
        hybrid_expired, just_launched, metadata_off, never_reported, no_agent, no_channel,
        no_network, no_public_address, no_role, no_route, not_running, proxy_in_the_way,
        region_off, region_unknown, tls_intercepted, wrong_role,
    },
};

/// What the user meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// Nothing of AWS answers, or not as AWS does.
    NoAws,
    /// AWS refuses every call.
    Refused,
    /// The server is not where it was looked for.
    NotFound,
    /// StartSession says TargetNotConnected.
    NotConnected,
    /// StartSession is denied or throttled.
    NotStarted,
    /// The session ends before it can be used.
    EndsAtOnce,
}

/// One row of the table.
pub struct Rule {
    /// The stable word of the cause.
    pub cause: &'static str,
    /// What the user meets.
    pub symptom: Symptom,
    /// The checks of `ops doctor` that show it.
    pub checks: &'static [&'static str],
    /// The cause in one line, for the documentation.
    pub means: &'static str,
    /// What to do, for the documentation.
    pub remedy: &'static str,
    /// Reads the facts. `None` where the rule does not apply, and where the words are those of the
    /// call that fails: see `Error::named`.
    tell: fn(&Facts) -> Option<(Text, Hint)>,
}

/// A rule that applies.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The stable word of the cause.
    pub cause: &'static str,
    /// The checks that show it.
    pub checks: &'static [&'static str],
    /// The cause, with its values.
    pub text: Text,
    /// What to do, with its values.
    pub remedy: Hint,
}

/// The first rule for `symptom` that applies.
pub fn explain(symptom: Symptom, facts: &Facts) -> Option<Explanation> {
    explained(facts, |rule| rule.symptom == symptom).next()
}

/// Every rule that applies and is shown by `check`, the likeliest first.
pub fn explain_all(check: &str, facts: &Facts) -> Vec<Explanation> {
    explained(facts, |rule| rule.checks.contains(&check)).collect()
}

fn explained(facts: &Facts, is_meant: impl Fn(&Rule) -> bool) -> impl Iterator<Item = Explanation> {
    RULES
        .iter()
        .filter(move |rule| is_meant(rule))
        .filter_map(move |rule| {
            let (text, remedy) = (rule.tell)(facts)?;
            Some(Explanation {
                cause: rule.cause,
                checks: rule.checks,
                text,
                remedy,
            })
        })
}

/// For a cause whose words are those of the call that failed.
fn by_the_call(_: &Facts) -> Option<(Text, Hint)> {
    None
}

/// The table. The first rule of a symptom that applies is the one that is told.
pub const RULES: &[Rule] = &[
    Rule {
        cause: "clock-skew",
        symptom: Symptom::Refused,
        checks: &["clock"],
        means: "the clock of this machine is wrong by more than five minutes",
        remedy: "set it: `sudo timedatectl set-ntp true`",
        tell: clock_skew,
    },
    Rule {
        cause: "tls-intercepted",
        symptom: Symptom::NoAws,
        checks: &["endpoints"],
        means: "a proxy shows a certificate of its own in place of AWS's, and this machine does not trust its issuer",
        remedy: "name the issuer's certificate: `export AWS_CA_BUNDLE=FILE.pem`",
        tell: tls_intercepted,
    },
    Rule {
        cause: "proxy-in-the-way",
        symptom: Symptom::NoAws,
        checks: &["endpoints"],
        means: "the proxy that is set refuses the hosts of AWS, or does not answer",
        remedy: "mend or unset `HTTPS_PROXY`, or name the hosts in `NO_PROXY`",
        tell: proxy_in_the_way,
    },
    Rule {
        cause: "no-network",
        symptom: Symptom::NoAws,
        checks: &["endpoints"],
        means: "a host of AWS cannot be resolved or connected to",
        remedy: "HTTPS to ec2, ssm and ssmmessages must be open, or `HTTPS_PROXY` set",
        tell: no_network,
    },
    Rule {
        cause: "region-off",
        symptom: Symptom::Refused,
        checks: &["region"],
        means: "the account has not enabled the region",
        remedy: "choose another with `--region`, or have it enabled: `aws account enable-region`",
        tell: region_off,
    },
    Rule {
        cause: "region-unknown",
        symptom: Symptom::Refused,
        checks: &["region"],
        means: "AWS has no region of that name",
        remedy: "check its spelling: `aws ec2 describe-regions --all-regions`",
        tell: region_unknown,
    },
    Rule {
        cause: "login-expired",
        symptom: Symptom::Refused,
        checks: &["credentials"],
        means: "the login or the temporary credentials have expired",
        remedy: "log in again",
        tell: by_the_call,
    },
    Rule {
        cause: "no-credentials",
        symptom: Symptom::Refused,
        checks: &["credentials"],
        means: "nothing gives credentials, or AWS does not know them",
        remedy: "name an AWS profile, or log in",
        tell: by_the_call,
    },
    Rule {
        cause: "wrong-account",
        symptom: Symptom::Refused,
        checks: &["credentials"],
        means: "the credentials belong to another account than the team profile names",
        remedy: "use another AWS profile, or another team profile",
        tell: by_the_call,
    },
    Rule {
        cause: "other-region",
        symptom: Symptom::NotFound,
        checks: &["found"],
        means: "the server is in another region",
        remedy: "name that region: `--region`",
        tell: by_the_call,
    },
    Rule {
        cause: "not-found",
        symptom: Symptom::NotFound,
        checks: &["found"],
        means: "there is no such server",
        remedy: "see what there is: `ops ls --state all`",
        tell: by_the_call,
    },
    Rule {
        cause: "stopped",
        symptom: Symptom::NotConnected,
        checks: &["state"],
        means: "the server is stopped, stopping or terminated",
        remedy: "start it: `aws ec2 start-instances`",
        tell: not_running,
    },
    Rule {
        cause: "agent-too-old",
        symptom: Symptom::NotConnected,
        checks: &["agent"],
        means: "the agent is older than Session Manager",
        remedy: "update it: `AWS-UpdateSSMAgent`",
        tell: agent_too_old,
    },
    Rule {
        cause: "hybrid-expired",
        symptom: Symptom::NotConnected,
        checks: &["agent"],
        means: "a hybrid node is silent and its activation has expired: it cannot register again with it",
        remedy: "make a new activation and register the node with it",
        tell: hybrid_expired,
    },
    Rule {
        cause: "no-role",
        symptom: Symptom::NotConnected,
        checks: &["role"],
        means: "no instance profile gives the server permissions",
        remedy: "attach one whose role has AmazonSSMManagedInstanceCore",
        tell: no_role,
    },
    Rule {
        cause: "wrong-role",
        symptom: Symptom::NotConnected,
        checks: &["role"],
        means: "the role of the server lacks what the agent needs",
        remedy: "attach AmazonSSMManagedInstanceCore to it",
        tell: wrong_role,
    },
    Rule {
        cause: "metadata-off",
        symptom: Symptom::NotConnected,
        checks: &["role"],
        means: "the server's metadata service is switched off, from which the agent has its credentials",
        remedy: "switch it on: `aws ec2 modify-instance-metadata-options`",
        tell: metadata_off,
    },
    Rule {
        cause: "egress-closed",
        symptom: Symptom::NotConnected,
        checks: &["network"],
        means: "the server's security groups let no HTTPS out",
        remedy: "add an outbound rule for TCP 443",
        tell: egress_closed,
    },
    Rule {
        cause: "endpoint-closed",
        symptom: Symptom::NotConnected,
        checks: &["network"],
        means: "the security group of an interface endpoint does not let the server in",
        remedy: "add an inbound rule for TCP 443 from the subnet",
        tell: endpoint_closed,
    },
    Rule {
        cause: "endpoint-missing",
        symptom: Symptom::NotConnected,
        checks: &["network"],
        means: "the subnet has no way out, and the VPC lacks one of the endpoints",
        remedy: "create the endpoint",
        tell: endpoint_missing,
    },
    Rule {
        cause: "no-route",
        symptom: Symptom::NotConnected,
        checks: &["network"],
        means: "the subnet has no route out, or one that leads nowhere, and the VPC no endpoints",
        remedy: "add a route to a NAT gateway, or the endpoints ssm and ssmmessages",
        tell: no_route,
    },
    Rule {
        cause: "no-public-address",
        symptom: Symptom::NotConnected,
        checks: &["network"],
        means: "the route out is an internet gateway, and the server has no public address",
        remedy: "give it an address, or a route to a NAT gateway",
        tell: no_public_address,
    },
    Rule {
        cause: "just-launched",
        symptom: Symptom::NotConnected,
        checks: &["agent"],
        means: "the server was launched a moment ago and its agent has not reported yet",
        remedy: "wait for it: `ops wait`",
        tell: just_launched,
    },
    Rule {
        cause: "agent-silent",
        symptom: Symptom::NotConnected,
        checks: &["agent"],
        means: "the agent has reported before and no longer does",
        remedy: "restart it, or the server",
        tell: agent_silent,
    },
    Rule {
        cause: "no-agent",
        symptom: Symptom::NotConnected,
        checks: &["agent"],
        means: "role and network are in order and no agent has ever reported: none is installed or running",
        remedy: "install or start it",
        tell: no_agent,
    },
    Rule {
        cause: "never-reported",
        symptom: Symptom::NotConnected,
        checks: &["agent"],
        means: "no agent has ever reported; why is not known with what may be asked",
        remedy: "ops doctor asks more",
        tell: never_reported,
    },
    Rule {
        cause: "no-channel",
        symptom: Symptom::NotConnected,
        checks: &["session"],
        means: "the agent reports and keeps no connection to ssmmessages",
        remedy: "check the way to ssmmessages and the actions `ssmmessages:*` of the role",
        tell: no_channel,
    },
    Rule {
        cause: "throttled",
        symptom: Symptom::NotStarted,
        checks: &["session"],
        means: "others use up the account's quota of three sessions a second",
        remedy: "try again; have the quota raised",
        tell: by_the_call,
    },
    Rule {
        cause: "denied",
        symptom: Symptom::NotStarted,
        checks: &["permissions", "session"],
        means: "no policy of the caller allows the call on this server",
        remedy: "the statement to add is printed",
        tell: by_the_call,
    },
    Rule {
        cause: "document-denied",
        symptom: Symptom::NotStarted,
        checks: &["permissions", "session"],
        means: "the caller may not use the session's document",
        remedy: "the statement to add is printed",
        tell: by_the_call,
    },
    Rule {
        cause: "denied-above",
        symptom: Symptom::NotStarted,
        checks: &["permissions", "session"],
        means: "a policy of the organisation, a permissions boundary or an explicit deny forbids the call, whatever else allows it",
        remedy: "ask whoever keeps that policy",
        tell: by_the_call,
    },
    Rule {
        cause: "just-in-time",
        symptom: Symptom::NotStarted,
        checks: &["permissions", "session"],
        means: "sessions are not allowed and access requests are: the account uses just-in-time node access",
        remedy: "ask for access in the console: Systems Manager, Just-in-time node access",
        tell: by_the_call,
    },
    Rule {
        cause: "standard-tier",
        symptom: Symptom::NotStarted,
        checks: &["session"],
        means: "hybrid nodes take sessions in the advanced tier alone",
        remedy: "enable it: `aws ssm update-service-setting`",
        tell: by_the_call,
    },
    Rule {
        cause: "kms-denied",
        symptom: Symptom::EndsAtOnce,
        checks: &["session"],
        means: "sessions have to be encrypted, and the caller may not use the key or it is not usable",
        remedy: "the statement to add is printed",
        tell: by_the_call,
    },
    Rule {
        cause: "kms-server-denied",
        symptom: Symptom::EndsAtOnce,
        checks: &["session"],
        means: "sessions have to be encrypted, and the server's role may not decrypt the key",
        remedy: "the statement to add is printed",
        tell: by_the_call,
    },
    Rule {
        cause: "run-as-missing",
        symptom: Symptom::EndsAtOnce,
        checks: &["session"],
        means: "the user that the preferences have sessions run as does not exist on the server",
        remedy: "create the user, or change the preferences",
        tell: by_the_call,
    },
    Rule {
        cause: "agent-lacks-plugin",
        symptom: Symptom::EndsAtOnce,
        checks: &["session"],
        means: "the agent is too old for this kind of session",
        remedy: "update it: `AWS-UpdateSSMAgent`",
        tell: by_the_call,
    },
];

#[cfg(test)]
mod tests {
    use ops_profile::{Instance, Ping};

    use super::{
        super::{
            facts::*,
            readings::{SESSIONS_SINCE, is_older, is_skew_fatal},
        },
        *,
    };

    fn silent(instance: &mut Instance) -> Facts {
        instance.ping = Ping::NoAgent;
        Facts::of(instance)
    }

    fn cause(facts: &Facts) -> Option<&'static str> {
        explain(Symptom::NotConnected, facts).map(|told| told.cause)
    }

    #[test]
    fn every_cause_has_one_row_and_the_page_tells_of_it() {
        let page = include_str!("../../../../docs/doctor.md");
        for (index, rule) in RULES.iter().enumerate() {
            let is_twice = RULES[..index].iter().any(|other| other.cause == rule.cause);
            assert!(!is_twice, "{}", rule.cause);
            let row = format!("| `{}` | {} | {} |", rule.cause, rule.means, rule.remedy);
            assert!(page.contains(&row), "{row}");
        }
    }

    #[test]
    fn the_likeliest_cause_is_the_one_that_is_known() {
        let mut instance = Instance::bare("i-0a1b2c3d4e5f60718", "eu-west-1");
        let mut facts = silent(&mut instance);
        assert_eq!(cause(&facts), Some("never-reported"));
        facts.ec2 = Learned::Is(Ec2Machine::default());
        assert_eq!(cause(&facts), Some("no-role"));
        facts.default_role = Learned::Is(Some("Default".to_owned()));
        assert_eq!(cause(&facts), Some("never-reported"));
        facts.way_out = Learned::Is(WayOut::default());
        assert_eq!(cause(&facts), Some("no-route"));
        facts.way_out = Learned::Is(WayOut {
            endpoints: vec!["ssm".to_owned()],
            ..WayOut::default()
        });
        assert_eq!(cause(&facts), Some("endpoint-missing"));
    }

    #[test]
    fn a_server_whose_agent_answers_is_not_accused_of_its_network() {
        let mut instance = Instance::bare("i-0a1b2c3d4e5f60718", "eu-west-1");
        instance.ping = Ping::Online;
        let mut facts = Facts::of(&instance);
        facts.ec2 = Learned::Is(Ec2Machine::default());
        facts.way_out = Learned::Is(WayOut::default());
        for check in ["role", "network", "agent", "state"] {
            assert!(explain_all(check, &facts).is_empty(), "{check}");
        }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(is_older("2.3.50.0", SESSIONS_SINCE));
        assert!(!is_older("2.3.68.0", SESSIONS_SINCE));
        assert!(!is_older("3.3.9.0", "3.2.10.0"));
    }

    #[test]
    fn a_clock_is_wrong_from_five_minutes_on_and_worth_a_word_before() {
        let at = |seconds| Facts {
            clock_ahead: Some(jiff::SignedDuration::from_secs(seconds)),
            ..Facts::none()
        };
        assert!(explain_all("clock", &at(20)).is_empty());
        assert!(!is_skew_fatal(&at(-90)) && !explain_all("clock", &at(-90)).is_empty());
        assert!(is_skew_fatal(&at(-301)));
    }
}
