//! The one table of what goes wrong with sessions: what the user meets, which checks show it, what
//! the cause is, what to do.
//!
//! A rule reads [`Facts`] and nothing else, so that the same words come from `ops doctor` and from
//! the error of any command. Sources: "Troubleshooting managed node availability" and
//! "Troubleshooting Session Manager" of the Systems Manager user guide, and the checks of
//! `ssm-cli get-diagnostics` in the public amazon-ssm-agent.

use ops_profile::{Instance, InstanceState, Kind, Ping};
use ops_ui::{Hint, Text, hint};

use super::facts::{EndpointLook, Facts, WayOut};
use crate::iam;

/// Agents report within this time after a launch.
const BOOT_SECONDS: i64 = 180;
/// A signature is good for five minutes. Source: "Troubleshoot Signature Version 4 signing".
const SKEW_SECONDS: i64 = 300;
/// From here on a clock is worth a word.
const SKEW_WORTH_A_WORD_SECONDS: i64 = 60;
/// The first agent that takes sessions. Source: the prerequisites of Session Manager.
pub(crate) const SESSIONS_SINCE: &str = "2.3.68.0";

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
        remedy: "set it: `timedatectl set-ntp true`",
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

fn clock_skew(facts: &Facts) -> Option<(Text, Hint)> {
    let ahead = facts.clock_ahead?;
    let seconds = ahead.as_secs();
    if seconds.abs() < SKEW_WORTH_A_WORD_SECONDS {
        return None;
    }
    let by = ops_profile::instance::age_words(seconds.abs());
    let way = if seconds > 0 { "behind" } else { "ahead" };
    let text = format!("the clock of this machine is {by} {way}");
    let text = match is_skew_fatal(facts) {
        true => format!("{text}: AWS refuses what is signed more than five minutes off"),
        false => text,
    };
    Some((
        text.into(),
        "set the clock: sudo timedatectl set-ntp true".into(),
    ))
}

/// Whether AWS refuses what is signed with this machine's clock.
pub fn is_skew_fatal(facts: &Facts) -> bool {
    facts
        .clock_ahead
        .is_some_and(|ahead| ahead.as_secs().abs() >= SKEW_SECONDS)
}

fn failed_looks(facts: &Facts) -> impl Iterator<Item = (&EndpointLook, &str)> {
    facts
        .endpoints
        .iter()
        .filter_map(|look| Some((look, look.failure.as_deref()?)))
}

fn tls_intercepted(facts: &Facts) -> Option<(Text, Hint)> {
    let look = facts.endpoints.iter().find(|look| look.is_issuer_unknown)?;
    let issuer = look.issuer.as_deref().unwrap_or("nobody");
    let by = match &look.proxy {
        Some(proxy) => format!("{proxy}, or something behind it,"),
        None => "something between this machine and AWS".to_owned(),
    };
    Some((
        format!(
            "TLS to {} is intercepted: {by} shows a certificate that `{issuer}` issued, which this machine does not trust",
            look.host
        )
        .into(),
        "name that authority's certificate: export AWS_CA_BUNDLE=FILE.pem".into(),
    ))
}

fn proxy_in_the_way(facts: &Facts) -> Option<(Text, Hint)> {
    let (look, why) =
        failed_looks(facts).find(|(look, _)| look.proxy.is_some() && !look.is_issuer_unknown)?;
    let proxy = look.proxy.as_deref().unwrap_or_default();
    Some((
        format!("{} is not reached by way of {proxy}: {why}", look.host).into(),
        "mend that proxy, or leave it out: unset HTTPS_PROXY, or export NO_PROXY=.amazonaws.com"
            .into(),
    ))
}

fn no_network(facts: &Facts) -> Option<(Text, Hint)> {
    let (look, why) =
        failed_looks(facts).find(|(look, _)| look.proxy.is_none() && !look.is_issuer_unknown)?;
    Some((
        format!("{} is not reached: {why}", look.host).into(),
        hint!(
            "open HTTPS to {}, or export HTTPS_PROXY=http://HOST:PORT",
            look.host.as_str()
        ),
    ))
}

fn region_off(facts: &Facts) -> Option<(Text, Hint)> {
    let region = facts.region.known().filter(|r| r.exists && !r.is_enabled)?;
    Some((
        format!("the account has not enabled the region `{}`", region.name).into(),
        hint!(
            "choose another with --region, or have it enabled: aws account enable-region --region-name {}",
            region.name
        ),
    ))
}

fn region_unknown(facts: &Facts) -> Option<(Text, Hint)> {
    let region = facts.region.known().filter(|region| !region.exists)?;
    Some((
        format!("AWS has no region `{}`", region.name).into(),
        "see how they are spelt: aws ec2 describe-regions --all-regions --query Regions[].RegionName"
            .into(),
    ))
}

fn not_running(facts: &Facts) -> Option<(Text, Hint)> {
    let instance = facts.instance.as_ref()?;
    let (id, region) = (&instance.id, &instance.region);
    let now = facts.ec2.known().and_then(|machine| machine.state);
    let state = now.unwrap_or(instance.state);
    let hint = match state {
        InstanceState::Running | InstanceState::Pending => return None,
        InstanceState::Stopped => hint!(
            "start it: aws ec2 start-instances --instance-ids {} --region {}",
            id,
            region
        ),
        InstanceState::Stopping => hint!(
            "wait until it has stopped, then start it: aws ec2 start-instances --instance-ids {} --region {}",
            id,
            region
        ),
        InstanceState::ShuttingDown | InstanceState::Terminated => {
            Hint::from("see what is there: ops ls")
        }
    };
    Some((
        format!("{id} in region `{region}` has state {}", state.as_str()).into(),
        hint,
    ))
}

/// Whether nothing has been heard of the agent, or not for long.
fn is_silent(facts: &Facts) -> bool {
    matches!(facts.ping(), Ping::NoAgent | Ping::Lost { .. })
}

fn agent_too_old(facts: &Facts) -> Option<(Text, Hint)> {
    let instance = facts.instance.as_ref()?;
    let version = facts.agent.known()?.version.as_deref()?;
    if !is_older(version, SESSIONS_SINCE) {
        return None;
    }
    Some((
        format!("its agent {version} is too old: sessions take {SESSIONS_SINCE} at least").into(),
        update_agent(instance),
    ))
}

/// How the agent of `instance` is updated.
pub fn update_agent(instance: &Instance) -> Hint {
    hint!(
        "update it: aws ssm send-command --document-name AWS-UpdateSSMAgent --targets Key=InstanceIds,Values={} --region {}",
        instance.id,
        instance.region
    )
}

/// Whether the dotted numbers of `version` are less than those of `than`. What is no number counts
/// as 0.
pub(crate) fn is_older(version: &str, than: &str) -> bool {
    let parts = |text: &str| -> Vec<u32> {
        text.split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    parts(version) < parts(than)
}

fn hybrid_expired(facts: &Facts) -> Option<(Text, Hint)> {
    let instance = facts.instance.as_ref()?;
    if !is_silent(facts) || facts.activation_expired.known() != Some(&true) {
        return None;
    }
    let role = facts
        .agent
        .known()
        .and_then(|agent| agent.hybrid_role.as_deref())
        .unwrap_or("ROLE");
    Some((
        format!(
            "{}, and the activation of this hybrid node has expired",
            silence(facts)
        )
        .into(),
        hint!(
            "make a new activation and register the node with it: aws ssm create-activation --iam-role {} --region {}",
            role,
            instance.region
        ),
    ))
}

fn no_role(facts: &Facts) -> Option<(Text, Hint)> {
    let (instance, machine) = (facts.instance.as_ref()?, facts.ec2.known()?);
    let default_role = facts.default_role.known().and_then(Option::as_ref);
    if !is_silent(facts) || machine.instance_profile.is_some() || default_role.is_some() {
        return None;
    }
    let text = "no instance profile is attached to it, so that its agent has no permissions";
    // Default Host Management would give it a role; whoever may not ask does not know.
    let text = match facts.default_role.known() {
        Some(_) => text.to_owned(),
        None => format!("{text} (unless Default Host Management gives it some)"),
    };
    Some((
        text.into(),
        hint!(
            "attach one whose role has AmazonSSMManagedInstanceCore: aws ec2 associate-iam-instance-profile --instance-id {} --region {} --iam-instance-profile Name=PROFILE",
            instance.id,
            instance.region
        ),
    ))
}

fn wrong_role(facts: &Facts) -> Option<(Text, Hint)> {
    let role = facts.role.known()?;
    let missing = match (&role.missing, &role.policies) {
        (Some(missing), _) if missing.is_empty() => return None,
        // An agent that reports has what it needs for that, by whatever policy the simulator does
        // not know; what sessions need is not proven by it.
        (Some(missing), _)
            if !is_silent(facts) && !missing.iter().any(|call| call.ends_with("DataChannel")) =>
        {
            return None;
        }
        (Some(missing), _) => format!(
            "its role `{}` lacks {}",
            role.name,
            missing
                .iter()
                .map(|action| format!("`{action}`"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        // The policies of its own are not read: only an agent that is silent proves anything.
        (None, Some(policies)) if is_silent(facts) => {
            if policies.iter().any(|name| iam::is_agent_policy(name)) {
                return None;
            }
            format!(
                "its role `{}` has none of the managed policies that agents need (it has {})",
                role.name,
                match policies.is_empty() {
                    true => "none".to_owned(),
                    false => policies.join(", "),
                }
            )
        }
        _ => return None,
    };
    Some((
        missing.into(),
        hint!(
            "aws iam attach-role-policy --role-name {} --policy-arn {}",
            role.name.as_str(),
            iam::AGENT_POLICY_ARN
        ),
    ))
}

fn metadata_off(facts: &Facts) -> Option<(Text, Hint)> {
    let (instance, machine) = (facts.instance.as_ref()?, facts.ec2.known()?);
    if !is_silent(facts) || !machine.metadata_is_off {
        return None;
    }
    Some((
        "its metadata service is switched off, from which its agent has its credentials".into(),
        hint!(
            "aws ec2 modify-instance-metadata-options --instance-id {} --region {} --http-endpoint enabled",
            instance.id,
            instance.region
        ),
    ))
}

/// The way out of a server whose agent is silent.
fn way_of_silent(facts: &Facts) -> Option<(&Instance, &WayOut)> {
    let way = facts.way_out.known()?;
    is_silent(facts).then_some((facts.instance.as_ref()?, way))
}

fn egress_closed(facts: &Facts) -> Option<(Text, Hint)> {
    let (instance, way) = way_of_silent(facts)?;
    if way.lets_https_out != Some(false) {
        return None;
    }
    let group = facts.ec2.known().and_then(|machine| machine.groups.first());
    Some((
        "its security groups let no HTTPS out, which its agent needs".into(),
        hint!(
            "aws ec2 authorize-security-group-egress --group-id {} --region {} --protocol tcp --port 443 --cidr 0.0.0.0/0",
            group.map_or("GROUP", String::as_str),
            instance.region
        ),
    ))
}

fn endpoint_closed(facts: &Facts) -> Option<(Text, Hint)> {
    let (instance, way) = way_of_silent(facts)?;
    let closed = way.closed_endpoints.as_ref().filter(|closed| {
        closed
            .iter()
            .any(|name| WayOut::NEEDED.contains(&name.as_str()))
    })?;
    let address = facts
        .ec2
        .known()
        .and_then(|machine| machine.private_ip.clone())
        .unwrap_or_else(|| "ADDRESS".to_owned());
    Some((
        format!(
            "the security groups of the VPC endpoints {} do not let {address} in on port 443",
            closed.join(", ")
        )
        .into(),
        hint!(
            "allow it, or all of the subnet: aws ec2 authorize-security-group-ingress --group-id {} --region {} --protocol tcp --port 443 --cidr {}/32",
            way.closed_group.as_deref().unwrap_or("GROUP"),
            instance.region,
            address.as_str()
        ),
    ))
}

fn endpoint_missing(facts: &Facts) -> Option<(Text, Hint)> {
    let (instance, way) = way_of_silent(facts)?;
    let unreached = way.unreached();
    // Some of them are there: whoever made those meant endpoints to be the way.
    let first = unreached.first().filter(|_| !way.endpoints.is_empty())?;
    let vpc = facts.ec2.known().and_then(|machine| machine.vpc.as_deref());
    Some((
        format!(
            "its subnet has no way out, and its VPC has no endpoint for {}",
            unreached.join(" and ")
        )
        .into(),
        hint!(
            "aws ec2 create-vpc-endpoint --vpc-endpoint-type Interface --private-dns-enabled --vpc-id {} --service-name com.amazonaws.{}.{} --region {} --subnet-ids SUBNET --security-group-ids GROUP",
            vpc.unwrap_or("VPC"),
            instance.region,
            *first,
            instance.region
        ),
    ))
}

fn no_route(facts: &Facts) -> Option<(Text, Hint)> {
    let (_, way) = way_of_silent(facts)?;
    if way.unreached().is_empty() || !way.endpoints.is_empty() {
        return None;
    }
    let subnet = facts
        .ec2
        .known()
        .and_then(|machine| machine.subnet.clone())
        .unwrap_or_default();
    let text = match (&way.default_route, way.is_black_hole) {
        (Some(gone), true) => format!(
            "the route out of its subnet {subnet} leads to {gone}, which is gone, and its VPC has no endpoints for ssm and ssmmessages"
        ),
        _ => format!(
            "its subnet {subnet} has no route out, and its VPC has no endpoints for ssm and ssmmessages"
        ),
    };
    Some((
        text.into(),
        "add a route to a NAT gateway (aws ec2 create-route), or the VPC endpoints ssm and ssmmessages"
            .into(),
    ))
}

fn no_public_address(facts: &Facts) -> Option<(Text, Hint)> {
    let (instance, way) = way_of_silent(facts)?;
    let gateway = way
        .default_route
        .as_deref()
        .filter(|to| to.starts_with("igw-"))?;
    let machine = facts.ec2.known()?;
    let by_endpoints = WayOut::NEEDED
        .iter()
        .all(|service| way.endpoints.iter().any(|name| name == service));
    if machine.has_public_ip || by_endpoints {
        return None;
    }
    Some((
        format!(
            "the route out of its subnet is the internet gateway {gateway}, and it has no public address"
        )
        .into(),
        hint!(
            "give it one (aws ec2 associate-address --instance-id {} --region {} --allocation-id ADDRESS), or its subnet a route to a NAT gateway",
            instance.id,
            instance.region
        ),
    ))
}

fn just_launched(facts: &Facts) -> Option<(Text, Hint)> {
    let instance = facts.instance.as_ref()?;
    let age = facts.now.duration_since(instance.launched?).as_secs();
    if facts.ping() != Ping::NoAgent || age >= BOOT_SECONDS {
        return None;
    }
    Some((
        format!(
            "it was launched {} ago, and agents report within three minutes",
            ops_profile::instance::age_words(age)
        )
        .into(),
        hint!("wait for it: ops wait {}", instance.target_word()),
    ))
}

/// Since when nothing has been heard of the agent, in words.
pub fn silence(facts: &Facts) -> String {
    match facts.ping() {
        Ping::Lost { last: Some(last) } => format!(
            "its agent last reported {} ago ({last:.0})",
            ops_profile::instance::age_words(facts.now.duration_since(last).as_secs())
        ),
        Ping::Lost { last: None } => "its agent is offline".to_owned(),
        _ => "its agent has never reported".to_owned(),
    }
}

fn agent_silent(facts: &Facts) -> Option<(Text, Hint)> {
    let instance = facts.instance.as_ref()?;
    if !matches!(facts.ping(), Ping::Lost { .. }) {
        return None;
    }
    let restart = match instance.kind {
        Kind::Hybrid => {
            Hint::from("restart its agent there: sudo systemctl restart amazon-ssm-agent")
        }
        Kind::Ec2 => hint!(
            "restart its agent, or the instance: aws ec2 reboot-instances --instance-ids {} --region {}",
            instance.id,
            instance.region
        ),
    };
    Some((silence(facts).into(), restart))
}

fn no_agent(facts: &Facts) -> Option<(Text, Hint)> {
    let instance = facts.instance.as_ref()?;
    // What is in order is known to be: otherwise nothing is known of the cause.
    let way = facts.way_out.known()?;
    let role = facts.role.known()?;
    let is_role_good = role.missing.as_ref().is_some_and(Vec::is_empty)
        || role
            .policies
            .as_ref()
            .is_some_and(|names| names.iter().any(|name| iam::is_agent_policy(name)));
    if facts.ping() != Ping::NoAgent || !is_role_good || !way.unreached().is_empty() {
        return None;
    }
    let seen = match facts.console.known() {
        Some(lines) if !lines.is_empty() => "; its console shows that one was started",
        Some(_) => "; its console shows no start of one",
        None => "",
    };
    Some((
        format!(
            "role and network are in order, and no agent has ever reported: none is installed, or it does not run{seen}"
        )
        .into(),
        hint!(
            "install it by user data or from an image that has it, or look at its console: aws ec2 get-console-output --latest --output text --instance-id {} --region {}",
            instance.id,
            instance.region
        ),
    ))
}

fn never_reported(facts: &Facts) -> Option<(Text, Hint)> {
    let instance = facts.instance.as_ref()?;
    if facts.ping() != Ping::NoAgent {
        return None;
    }
    Some((
        "Systems Manager has never heard of an agent on it: none is installed or running, its role lacks the permissions, or it cannot reach the ssm and ssmmessages endpoints".into(),
        hint!(
            "give its role the policy AmazonSSMManagedInstanceCore, and outbound HTTPS to ssm and ssmmessages; see which of them it is: ops doctor {}",
            instance.target_word()
        ),
    ))
}

fn no_channel(facts: &Facts) -> Option<(Text, Hint)> {
    let known = facts.agent.known()?;
    (known.ping == Ping::Online).then(|| {
        (
            "its agent reports, but keeps no connection to ssmmessages: the endpoint may be out of its reach, or its role lacks `ssmmessages:*`".into(),
            "check its role (AmazonSSMManagedInstanceCore) and the way to ssmmessages".into(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{super::facts::*, *};

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
