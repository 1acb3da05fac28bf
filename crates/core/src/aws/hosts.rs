//! The hosts of services that no client of the SDK is asked for.

use super::options::Service;
use crate::partition::Partition;

/// Which of a service's hosts the AWS configuration asks for: `use_fips_endpoint`,
/// `use_dualstack_endpoint`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HostKind {
    pub(super) is_fips: bool,
    pub(super) is_dual_stack: bool,
}

/// The URL of `service` in `region`, without a path. Of services whose clients are the SDK's, the
/// SDK knows better.
///
/// Source: the endpoint rules of each service, as botocore resolves them.
pub(super) fn url_of(service: Service, region: &str, kind: HostKind) -> String {
    let partition = Partition::of(region);
    let suffix = if kind.is_dual_stack {
        partition.dual_stack_suffix
    } else {
        partition.suffix
    };
    // The plain hosts of these services in GovCloud are validated already.
    let is_validated = partition.name == "aws-us-gov" && !kind.is_dual_stack;
    let fips = if kind.is_fips { "-fips" } else { "" };
    let fips_elsewhere = if is_validated { "" } else { fips };
    let host = match service {
        Service::Iam => return iam_url(partition, kind),
        Service::Sso => format!("portal.sso{fips_elsewhere}"),
        Service::SsoOidc => format!("oidc{fips_elsewhere}"),
        Service::CloudWatchLogs => format!("logs{fips_elsewhere}"),
        Service::ResourceGroups => format!("resource-groups{fips_elsewhere}"),
        Service::Kms => format!("kms{fips}"),
        Service::Ec2 => format!("ec2{fips}"),
        Service::Ssm => format!("ssm{fips}"),
        Service::Sts => format!("sts{fips}"),
        Service::S3 => format!("s3{fips}"),
        Service::InstanceConnect => format!("ec2-instance-connect{fips}"),
    };
    format!("https://{host}.{region}.{suffix}")
}

/// IAM has one host in a partition, whatever the region.
fn iam_url(partition: Partition, kind: HostKind) -> String {
    let service = if kind.is_fips { "iam-fips" } else { "iam" };
    let (plain, dual_stack) = (partition.suffix, partition.dual_stack_suffix);
    let host = match (partition.name, kind.is_dual_stack) {
        ("aws-us-gov", false) => format!("iam.us-gov.{plain}"),
        ("aws-us-gov", true) => format!("iam.us-gov.{dual_stack}"),
        ("aws", false) => format!("{service}.{plain}"),
        ("aws" | "aws-cn" | "aws-eusc", true) => format!("{service}.global.{dual_stack}"),
        (_, false) => format!("{service}.{}.{plain}", partition.iam_region),
        (_, true) => format!("{service}.{dual_stack}"),
    };
    format!("https://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What botocore 1.44.8 resolves: service, region, FIPS, dual stack, host.
    const RESOLVED: &str = "\
kms eu-west-1 - - kms.eu-west-1.amazonaws.com
kms us-east-1 F - kms-fips.us-east-1.amazonaws.com
kms us-east-1 F D kms-fips.us-east-1.api.aws
kms cn-north-1 - - kms.cn-north-1.amazonaws.com.cn
kms cn-north-1 - D kms.cn-north-1.api.amazonwebservices.com.cn
kms us-gov-west-1 F - kms-fips.us-gov-west-1.amazonaws.com
iam eu-west-1 - - iam.amazonaws.com
iam eu-west-1 - D iam.global.api.aws
iam us-east-1 F - iam-fips.amazonaws.com
iam us-east-1 F D iam-fips.global.api.aws
iam cn-northwest-1 - - iam.cn-north-1.amazonaws.com.cn
iam cn-north-1 - D iam.global.api.amazonwebservices.com.cn
iam us-gov-east-1 - - iam.us-gov.amazonaws.com
iam us-gov-west-1 F - iam.us-gov.amazonaws.com
iam us-gov-west-1 F D iam.us-gov.api.aws
iam eusc-de-east-1 - - iam.eusc-de-east-1.amazonaws.eu
iam eusc-de-east-1 - D iam.global.api.amazonwebservices.eu
iam us-iso-west-1 - - iam.us-iso-east-1.c2s.ic.gov
iam us-isob-east-1 F - iam-fips.us-isob-east-1.sc2s.sgov.gov
iam eu-isoe-west-1 - D iam.api.cloud-aws.adc-e.uk
logs eu-west-1 - - logs.eu-west-1.amazonaws.com
logs us-east-1 F - logs-fips.us-east-1.amazonaws.com
logs us-gov-west-1 F - logs.us-gov-west-1.amazonaws.com
logs us-gov-west-1 F D logs-fips.us-gov-west-1.api.aws
logs cn-north-1 - D logs.cn-north-1.api.amazonwebservices.com.cn
sso eu-west-1 - - portal.sso.eu-west-1.amazonaws.com
sso eu-west-1 F - portal.sso-fips.eu-west-1.amazonaws.com
sso us-gov-west-1 F - portal.sso.us-gov-west-1.amazonaws.com
sso eusc-de-east-1 F D portal.sso-fips.eusc-de-east-1.api.amazonwebservices.eu
sso us-east-1 - D portal.sso.us-east-1.api.aws
sso-oidc eu-west-1 - - oidc.eu-west-1.amazonaws.com
sso-oidc us-gov-west-1 F - oidc.us-gov-west-1.amazonaws.com
sso-oidc us-east-1 F D oidc-fips.us-east-1.api.aws
";

    #[test]
    fn a_host_is_that_of_the_endpoint_rules() {
        for line in RESOLVED.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let service = match words[0] {
                "kms" => Service::Kms,
                "iam" => Service::Iam,
                "logs" => Service::CloudWatchLogs,
                "resource-groups" => Service::ResourceGroups,
                "sso-oidc" => Service::SsoOidc,
                _ => Service::Sso,
            };
            let kind = HostKind {
                is_fips: words[2] == "F",
                is_dual_stack: words[3] == "D",
            };
            let expected = format!("https://{}", words[4]);
            assert_eq!(url_of(service, words[1], kind), expected, "{line}");
        }
    }
}
