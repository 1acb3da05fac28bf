//! Which service a request is for.

use http::request::Parts;

use crate::xml::Form;

/// The services behind the one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Service {
    /// The XML namespace of the answers of a query service; `None` for any other. EC2 has a
    /// protocol of its own.
    pub(crate) const fn query_namespace(self) -> Option<&'static str> {
        match self {
            Self::Sts => Some("https://sts.amazonaws.com/doc/2011-06-15/"),
            Self::Iam => Some("https://iam.amazonaws.com/doc/2010-05-08/"),
            _ => None,
        }
    }

    /// The name in a credential scope.
    pub(crate) const fn signing_name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Ssm => "ssm",
            Self::Sts => "sts",
            Self::InstanceConnect => "ec2-instance-connect",
            Self::S3 => "s3",
            Self::Kms => "kms",
            Self::Iam => "iam",
            Self::CloudWatchLogs => "logs",
            Self::ResourceGroups => "resource-groups",
        }
    }

    /// The service in the credential scope, `scope`, says it; a request without one is told by its
    /// shape, so that its error has the right shape too.
    pub(crate) fn of(parts: &Parts, scope: Option<&str>, body: &[u8]) -> Self {
        if let Some(scope) = scope
            && let Some(named) = [
                Self::Ec2,
                Self::Ssm,
                Self::Sts,
                Self::InstanceConnect,
                Self::S3,
                Self::Kms,
                Self::Iam,
                Self::CloudWatchLogs,
                Self::ResourceGroups,
            ]
            .into_iter()
            .find(|service| service.signing_name() == scope)
        {
            return named;
        }
        let target = parts
            .headers
            .get("x-amz-target")
            .and_then(|value| value.to_str().ok());
        match target {
            Some(target) if target.starts_with("AWSEC2InstanceConnectService.") => {
                return Self::InstanceConnect;
            }
            Some(target) if target.starts_with("TrentService.") => return Self::Kms,
            Some(target) if target.starts_with("Logs_20140328.") => return Self::CloudWatchLogs,
            Some(_) => return Self::Ssm,
            None => {}
        }
        if parts.uri.path() != "/" {
            return Self::S3;
        }
        let form = Form::parse(&String::from_utf8_lossy(body));
        match form.value("Version") {
            Some("2011-06-15") => Self::Sts,
            Some("2010-05-08") => Self::Iam,
            _ => Self::Ec2,
        }
    }

    /// `ec2:DescribeInstances` and the like, as policies spell it.
    pub(crate) fn permission(self, action: &str) -> String {
        format!("{}:{action}", self.signing_name())
    }
}
