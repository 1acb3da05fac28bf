//! Where a call was made, as every message about it says.

use std::{fmt, time::Duration};

use ops_ui::Error;

use super::{
    bounds::CALL_LIMIT,
    last_try::{FailedTry, LastTry, TryFailure},
    login::LoginWay,
    network::ByProxy,
    options::AwsOptions,
};

/// Where a call was made: said in every message.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallPlace {
    pub(crate) region: Option<String>,
    pub(crate) aws_profile: Option<String>,
    pub(crate) team: Option<String>,
    pub(crate) sandbox: bool,
    /// The proxy, where calls go by way of one.
    pub(crate) proxy: Option<ByProxy>,
    /// `--timeout`, where it is what ends a call that takes too long.
    pub(crate) timeout: Option<Duration>,
    /// Why the last try of a call failed.
    pub(crate) last_try: LastTry,
    /// How the AWS profile is logged in to.
    pub(crate) login: LoginWay,
}

impl fmt::Display for CallPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.region {
            Some(region) => write!(f, "region `{region}`")?,
            None => f.write_str("no region")?,
        }
        if let Some(team) = &self.team {
            write!(f, ", profile `{team}`")?;
        }
        if self.sandbox {
            return f.write_str(", the sandbox");
        }
        match (&self.aws_profile, &self.team) {
            (Some(name), _) => write!(f, ", AWS profile `{name}`"),
            (None, Some(_)) => Ok(()),
            (None, None) => f.write_str(", default AWS profile"),
        }
    }
}

impl CallPlace {
    /// ` by way of PROXY`; nothing where calls go straight to AWS.
    pub(super) fn by_way(&self) -> String {
        self.proxy
            .as_ref()
            .map_or_else(String::new, |proxy| format!(" by way of {proxy}"))
    }

    /// What to look at where no connection comes about.
    pub(super) fn unreachable_hint(&self) -> &'static str {
        match self.proxy {
            Some(_) => "check that proxy, or name the hosts of AWS in NO_PROXY",
            None => "check the network, HTTPS_PROXY, and the spelling of the region",
        }
    }

    /// `error`, which says that the time is up, with the reason why the last try failed where one
    /// did. `otherwise` is the hint where nothing is known to be wrong but the time.
    pub(crate) fn with_last_try(&self, error: Error, otherwise: &'static str) -> Error {
        let Some(FailedTry { host, why }) = self.last_try.failure() else {
            return match (&self.proxy, self.last_try.has_answer()) {
                (Some(proxy), false) => error
                    .caused_by(format!(
                        "nothing has answered by way of {proxy}, which may take connections and pass nothing on"
                    ))
                    .hint(self.unreachable_hint()),
                _ => error.hint(otherwise),
            };
        };
        let last = format!("the last try, at `{host}`{}, failed", self.by_way());
        match why {
            TryFailure::Connection(why) => {
                let why = match &self.proxy {
                    Some(proxy) => proxy.explain(why),
                    None => why,
                };
                error
                    .caused_by(format!("{last}: {why}"))
                    .hint(self.unreachable_hint())
            }
            TryFailure::Status(status) => error
                .caused_by(format!("{last}: status {status}"))
                .hint(otherwise),
        }
    }
}

impl AwsOptions {
    pub(crate) fn place(&self, region: Option<&str>) -> CallPlace {
        CallPlace {
            region: region.map(str::to_owned),
            aws_profile: self.profile.clone(),
            team: self.team.clone(),
            sandbox: self.sandbox,
            login: self.login,
            proxy: self.proxy.clone(),
            last_try: self.last_try.clone(),
            timeout: self.timeout.filter(|timeout| *timeout < CALL_LIMIT),
        }
    }
}
