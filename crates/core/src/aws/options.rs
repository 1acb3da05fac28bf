//! Which account, region and role an invocation means: flags, `OPS_*`, team profile and AWS
//! configuration put in order.

use std::{collections::BTreeMap, time::Duration};

use ops_profile::{Origin, Setting, Settings, schema::endpoint_variable, values};
use ops_ui::{Error, Invocation, Result};

use super::{last_try::LastTry, network::ByProxy};

/// The services `ops` talks to, by the names of their endpoint settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Service {
    Ec2,
    Ssm,
    Sts,
    InstanceConnect,
    S3,
    Kms,
    Iam,
    CloudWatchLogs,
    ResourceGroups,
    /// The access portal of IAM Identity Center.
    Sso,
    /// The token service of IAM Identity Center.
    SsoOidc,
}

impl Service {
    /// All of them.
    pub(crate) const ALL: [Self; 11] = [
        Self::Ec2,
        Self::Ssm,
        Self::Sts,
        Self::InstanceConnect,
        Self::S3,
        Self::Kms,
        Self::Iam,
        Self::CloudWatchLogs,
        Self::ResourceGroups,
        Self::Sso,
        Self::SsoOidc,
    ];

    /// Its key under `aws.endpoints` of a team profile.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Ssm => "ssm",
            Self::Sts => "sts",
            Self::InstanceConnect => "ec2_instance_connect",
            Self::S3 => "s3",
            Self::Kms => "kms",
            Self::Iam => "iam",
            Self::CloudWatchLogs => "cloudwatch_logs",
            Self::ResourceGroups => "resource_groups",
            Self::Sso => "sso",
            Self::SsoOidc => "sso_oidc",
        }
    }

    /// Whether a team profile may name its endpoint. Whoever gets the token of a login has all
    /// accounts of its owner: where it goes is for the owner's own configuration to say.
    pub(crate) const fn is_of_team(self) -> bool {
        !matches!(self, Self::Sso | Self::SsoOidc)
    }

    /// Its name in signatures.
    pub(crate) const fn signing_name(self) -> &'static str {
        match self {
            Self::InstanceConnect => "ec2-instance-connect",
            Self::CloudWatchLogs => "logs",
            Self::ResourceGroups => "resource-groups",
            Self::Sso => "awsssoportal",
            Self::SsoOidc => "sso-oauth",
            other => other.key(),
        }
    }

    /// Its variable, as every AWS SDK names it.
    pub(crate) fn variable(self) -> String {
        endpoint_variable(self.key())
    }
}

/// A role to assume, of a team profile or of an AWS profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) arn: String,
    pub(crate) external_id: Option<String>,
    pub(crate) mfa_serial: Option<String>,
    pub(crate) session_name: Option<String>,
    pub(crate) duration: Option<Duration>,
}

/// How AWS is reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct AwsOptions {
    /// The AWS profile, if one is named.
    pub(crate) profile: Option<String>,
    /// Who named it.
    pub(crate) profile_origin: Option<Origin>,
    /// Whether it was named by a flag or `OPS_*`: then it outranks credentials of the environment.
    pub(crate) profile_is_explicit: bool,
    /// The team profile in use, for messages.
    pub(crate) team: Option<String>,
    /// Regions of flag or `OPS_REGION` alone.
    pub(crate) regions: Vec<String>,
    /// The region of flag, `OPS_REGION`, team profile, environment, AWS files or the user's own
    /// file, in this order.
    pub(crate) region: Option<String>,
    /// The regions of a list, where several are set.
    pub(crate) list_regions: Vec<String>,
    /// Role of the team profile.
    pub(crate) role: Option<Role>,
    /// The account the caller must be in.
    pub(crate) account: Option<String>,
    /// Endpoints of the team profile by service.
    pub(crate) endpoints: BTreeMap<String, String>,
    /// The proxy, where calls go by way of one.
    pub(crate) proxy: Option<ByProxy>,
    /// Endpoint of the team profile for every service.
    pub(crate) endpoint_url: Option<String>,
    /// The team profile allows endpoints that are plain HTTP to other machines.
    pub(crate) allow_plain_http: bool,
    /// `--timeout`, which shortens every call.
    pub(crate) timeout: Option<Duration>,
    /// Why the last try of a call failed, of all calls of this invocation.
    pub(crate) last_try: LastTry,
    /// How the AWS profile is logged in to; known once the AWS files are read.
    pub(crate) login: super::login::LoginWay,
    /// The environment is the sandbox's: it outranks everything, and no file is read.
    pub(crate) sandbox: bool,
}

impl AwsOptions {
    /// The AWS profile that is meant where none is named, too.
    pub(crate) fn profile_name(&self) -> &str {
        self.profile.as_deref().unwrap_or("default")
    }

    /// What `settings` of `invocation` say.
    pub(crate) fn of(invocation: &Invocation, settings: &Settings) -> Self {
        let aws = &settings.profile().aws;
        let endpoints = aws
            .endpoints
            .each()
            .into_iter()
            .filter_map(|(key, url)| Some((key.to_owned(), url?.as_str().to_owned())))
            .collect();
        Self {
            profile: settings.aws_profile.value.clone(),
            profile_origin: Some(settings.aws_profile.origin.clone()),
            profile_is_explicit: settings.aws_profile.is_explicit(),
            team: settings.profile.value.clone(),
            regions: invocation.globals.region.clone(),
            region: settings.region.value.clone(),
            list_regions: settings.regions.value.clone(),
            role: aws.role_arn.clone().map(|arn| Role {
                arn,
                external_id: aws.external_id.clone(),
                mfa_serial: aws.mfa_serial.clone(),
                session_name: aws.session_name.clone(),
                duration: aws.duration.map(|time| time.0),
            }),
            account: aws
                .account
                .as_ref()
                .map(|account| account.as_str().to_owned()),
            endpoints,
            proxy: None,
            last_try: LastTry::default(),
            endpoint_url: aws.endpoint_url.as_ref().map(|url| url.as_str().to_owned()),
            allow_plain_http: aws.allow_plain_http == Some(true),
            timeout: settings.timeout.value,
            login: super::login::LoginWay::default(),
            sandbox: invocation.globals.sandbox && invocation.env.var("AWS_ENDPOINT_URL").is_some(),
        }
    }
}

/// A region that a variable or a file of AWS names is checked as `--region` and the profile's are,
/// before a host is made of it.
///
/// # Errors
/// It is no region.
pub(super) fn check_region(region: &Setting<Option<String>>) -> Result<()> {
    let Setting {
        value: Some(name),
        origin: origin @ (Origin::Variable(_) | Origin::Aws(_)),
    } = region
    else {
        return Ok(());
    };
    match name.parse::<values::Region>() {
        Ok(_) => Ok(()),
        Err(why) => {
            Err(Error::usage(format!("the region of {origin} is not usable")).caused_by(why))
        }
    }
}
