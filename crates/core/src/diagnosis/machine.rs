//! What is looked at on this machine: its credentials, its clock, its way to AWS, its region.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ops_session::driver::{OpenError, Probe, Prober};
use ops_ui::{Error, Result};
use url::Url;

use super::facts::{EndpointLook, RegionStatus};
use crate::{
    aws::{Aws, Identity, Service, chain},
    context::Context,
    partition::Partition,
};

/// The issuers of AWS's own certificates. Source: Amazon Trust Services.
const AMAZON: &str = "O=Amazon";

/// The credentials in use.
#[derive(Clone, Debug)]
pub struct CredentialsFound {
    /// Where they come from, in words.
    pub source: String,
    /// Whose they are.
    pub identity: Identity,
    /// Until when; `None` for those that do not end.
    pub expires: Option<Timestamp>,
}

impl Context {
    /// The credentials in use: found, known to AWS, and of the account that the team profile names.
    ///
    /// # Errors
    /// None found, or expired ones (4); another account (9); those of the call.
    pub async fn find_credentials(&self) -> Result<CredentialsFound> {
        let aws = self.aws().await?;
        let credentials = aws.credentials().await?;
        let identity = self.identity().await?.clone();
        self.check_account().await?;
        let expires = credentials
            .expiry()
            .and_then(|time| Timestamp::try_from(time).ok());
        Ok(CredentialsFound {
            source: aws.source(Some(&credentials)).words,
            identity,
            expires,
        })
    }

    /// Goes to the hosts of EC2, SSM and Session Manager in the region, side by side. The second
    /// is how far their clock is ahead of this one.
    ///
    /// # Errors
    /// No region; a proxy or certificates that cannot be used.
    pub async fn look_at_endpoints(&self) -> Result<(Vec<EndpointLook>, Option<SignedDuration>)> {
        let aws = self.aws().await?;
        let hosts = hosts(aws, aws.region()?);
        let is_any_secure = hosts.iter().any(|(_, url)| url.scheme() != "http");
        let roots = aws.network.ca_bundle();
        let prober = Prober::new(aws.network.for_sessions(), roots.as_deref(), is_any_secure)
            .await
            .map_err(|error| {
                Error::usage("the hosts of AWS cannot be looked at").caused_by(chain(&error))
            })?;
        let looks = hosts.iter().map(async |(service, url)| {
            let is_secure = url.scheme() != "http";
            let host = url.host_str().unwrap_or_default();
            let port = url.port_or_known_default().unwrap_or(443);
            let probe = prober.look(host, port, is_secure).await;
            let ahead = probe.date.as_deref().and_then(clock_ahead);
            let proxy = aws
                .network
                .proxy_for(host)
                .filter(|_| is_secure)
                .map(|proxy| proxy.to_string());
            (look_of(service, host, proxy, probe), ahead)
        });
        let seen = futures_util::future::join_all(looks).await;
        // Of several the least off: an answer may have been held up on its way.
        let ahead = seen
            .iter()
            .filter_map(|(_, ahead)| *ahead)
            .min_by_key(|ahead| ahead.abs());
        Ok((seen.into_iter().map(|(look, _)| look).collect(), ahead))
    }

    /// Whether the account has enabled the region (DescribeRegions).
    ///
    /// # Errors
    /// No region; those of the call, made in the region and, where that knows no keys of ours, in
    /// the partition's first one.
    pub async fn region_status(&self) -> Result<RegionStatus> {
        let aws = self.aws().await?;
        let region = aws.region()?.to_owned();
        aws.credentials().await?;
        // The sandbox and settings of endpoints have one address for all regions; a region of AWS
        // that is not enabled answers that it knows no such key, or not at all.
        let home = Partition::of(&region).iam_region;
        match self.ask_region(&region, &region).await {
            Ok(status) => Ok(status),
            Err(error) if region == home => Err(error),
            Err(error) => self
                .ask_region(&region, home)
                .await
                .ok()
                .filter(|status| !status.is_enabled)
                .ok_or(error),
        }
    }

    async fn ask_region(&self, name: &str, asked_in: &str) -> Result<RegionStatus> {
        let aws = self.aws().await?;
        let answer = aws
            .clients(asked_in)
            .ec2
            .describe_regions()
            .all_regions(true)
            .send()
            .await
            .map_err(|error| {
                aws.call("ec2:DescribeRegions", None, asked_in)
                    .failed("it is not known whether the region is enabled", &error)
            })?;
        let found = answer
            .regions
            .unwrap_or_default()
            .into_iter()
            .find(|region| region.region_name.as_deref() == Some(name));
        Ok(RegionStatus {
            name: name.to_owned(),
            exists: found.is_some(),
            is_enabled: found
                .is_some_and(|region| region.opt_in_status.as_deref() != Some("not-opted-in")),
        })
    }
}

/// Where the three services are asked. What cannot be parsed is told by its first call.
fn hosts(aws: &Aws, region: &str) -> Vec<(&'static str, Url)> {
    let messages = aws.messages_url(region);
    [
        ("ec2", aws.url_of(Service::Ec2, region)),
        ("ssm", aws.url_of(Service::Ssm, region)),
        ("ssmmessages", messages),
    ]
    .into_iter()
    .filter_map(|(service, url)| Some((service, Url::parse(&url).ok()?)))
    .collect()
}

fn look_of(service: &'static str, host: &str, proxy: Option<String>, probe: Probe) -> EndpointLook {
    EndpointLook {
        service,
        host: host.to_owned(),
        proxy,
        times: [probe.dns, probe.tcp, probe.tls],
        is_issuer_unknown: probe.is_issuer_unknown(),
        is_of_amazon: host.ends_with(".amazonaws.com") || host.ends_with(".api.aws"),
        failure: probe.failure.as_ref().map(|error: &OpenError| chain(error)),
        issuer: probe.issuer,
    }
}

impl EndpointLook {
    /// Whether a trusted authority that is not Amazon's vouches for the host: a proxy inspects what
    /// goes through it, and this machine is meant to trust it.
    pub fn is_inspected(&self) -> bool {
        let is_foreign =
            |issuer: &String| !issuer.contains(AMAZON) && !issuer.contains("Starfield");
        self.failure.is_none() && self.is_of_amazon && self.issuer.as_ref().is_some_and(is_foreign)
    }

    /// All steps together.
    pub fn total(&self) -> Duration {
        self.times.iter().flatten().sum()
    }
}

/// How far the clock that wrote `date`, a `Date` header, is ahead of this one.
fn clock_ahead(date: &str) -> Option<SignedDuration> {
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    Some(theirs.duration_since(Timestamp::now()))
}
