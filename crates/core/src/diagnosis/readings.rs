//! How the rules of [`super::rules`] read facts: each says what it sees and what to do, or nothing.

use ops_profile::{Instance, InstanceState, Kind, Ping};
use ops_ui::{Hint, Text, hint};

use super::facts::{EndpointLook, Facts, WayOut};
use crate::{aws::SET_CLOCK, iam};

/// Agents mostly report within this time after a launch. An assumption: AWS documents no time, but
/// for Default Host Management, whose role may take half an hour to reach a server.
const BOOT_SECONDS: i64 = 180;
/// A signature is good for five minutes. Source: "Troubleshoot Signature Version 4 signing".
const SKEW_SECONDS: i64 = 300;
/// From here on a clock is worth a word.
const SKEW_WORTH_A_WORD_SECONDS: i64 = 60;
/// The first agent that takes sessions. Source: the prerequisites of Session Manager.
pub(super) const SESSIONS_SINCE: &str = "2.3.68.0";

pub(super) fn clock_skew(facts: &Facts) -> Option<(Text, Hint)> {
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
    Some((text.into(), SET_CLOCK.into()))
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

pub(super) fn tls_intercepted(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn proxy_in_the_way(facts: &Facts) -> Option<(Text, Hint)> {
    let (look, why) =
        failed_looks(facts).find(|(look, _)| look.proxy.is_some() && !look.is_issuer_unknown)?;
    let proxy = look.proxy.as_deref().unwrap_or_default();
    Some((
        format!("{} is not reached by way of {proxy}: {why}", look.host).into(),
        "mend that proxy, or leave it out: unset HTTPS_PROXY, or export NO_PROXY=.amazonaws.com"
            .into(),
    ))
}

pub(super) fn no_network(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn region_off(facts: &Facts) -> Option<(Text, Hint)> {
    let region = facts.region.known().filter(|r| r.exists && !r.is_enabled)?;
    Some((
        format!("the account has not enabled the region `{}`", region.name).into(),
        hint!(
            "choose another with --region, or have it enabled: aws account enable-region --region-name {}",
            region.name
        ),
    ))
}

pub(super) fn region_unknown(facts: &Facts) -> Option<(Text, Hint)> {
    let region = facts.region.known().filter(|region| !region.exists)?;
    Some((
        format!("AWS has no region `{}`", region.name).into(),
        "see how they are spelt: aws ec2 describe-regions --all-regions --query Regions[].RegionName"
            .into(),
    ))
}

pub(super) fn not_running(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn agent_too_old(facts: &Facts) -> Option<(Text, Hint)> {
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
        "update the agent: aws ssm send-command --document-name AWS-UpdateSSMAgent --targets Key=InstanceIds,Values={} --region {}",
        instance.id,
        instance.region
    )
}

/// Whether the dotted numbers of `version` are less than those of `than`. What is no number counts
/// as 0.
pub(super) fn is_older(version: &str, than: &str) -> bool {
    let parts = |text: &str| -> Vec<u32> {
        text.split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    parts(version) < parts(than)
}

pub(super) fn hybrid_expired(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn no_role(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn wrong_role(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn metadata_off(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn egress_closed(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn endpoint_closed(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn endpoint_missing(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn no_route(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn no_public_address(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn just_launched(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn agent_silent(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn no_agent(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn never_reported(facts: &Facts) -> Option<(Text, Hint)> {
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

pub(super) fn no_channel(facts: &Facts) -> Option<(Text, Hint)> {
    let known = facts.agent.known()?;
    (known.ping == Ping::Online).then(|| {
        (
            "its agent reports, but keeps no connection to ssmmessages: the endpoint may be out of its reach, or its role lacks `ssmmessages:*`".into(),
            "check its role (AmazonSSMManagedInstanceCore) and the way to ssmmessages".into(),
        )
    })
}
