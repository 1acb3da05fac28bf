//! The partitions of AWS: their names in ARNs, and the ends of their hosts' names.

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name in ARNs: `arn:aws-cn:…`.
    pub name: &'static str,
    /// What the names of its hosts end in: `ssm.REGION.amazonaws.com`.
    pub suffix: &'static str,
    /// The same for dual-stack hosts.
    pub dual_stack_suffix: &'static str,
    /// The region that calls of IAM are signed for, which has no regions of its own.
    pub iam_region: &'static str,
    /// What its regions begin with.
    prefix: &'static str,
}

/// The last one has every region that no other has. Source: `partitions.json` of botocore.
const PARTITIONS: [Partition; 8] = [
    Partition {
        name: "aws-cn",
        suffix: "amazonaws.com.cn",
        dual_stack_suffix: "api.amazonwebservices.com.cn",
        iam_region: "cn-north-1",
        prefix: "cn-",
    },
    Partition {
        name: "aws-us-gov",
        suffix: "amazonaws.com",
        dual_stack_suffix: "api.aws",
        iam_region: "us-gov-west-1",
        prefix: "us-gov-",
    },
    Partition {
        name: "aws-eusc",
        suffix: "amazonaws.eu",
        dual_stack_suffix: "api.amazonwebservices.eu",
        iam_region: "eusc-de-east-1",
        prefix: "eusc-",
    },
    Partition {
        name: "aws-iso",
        suffix: "c2s.ic.gov",
        dual_stack_suffix: "api.aws.ic.gov",
        iam_region: "us-iso-east-1",
        prefix: "us-iso-",
    },
    Partition {
        name: "aws-iso-b",
        suffix: "sc2s.sgov.gov",
        dual_stack_suffix: "api.aws.scloud",
        iam_region: "us-isob-east-1",
        prefix: "us-isob-",
    },
    Partition {
        name: "aws-iso-e",
        suffix: "cloud.adc-e.uk",
        dual_stack_suffix: "api.cloud-aws.adc-e.uk",
        iam_region: "eu-isoe-west-1",
        prefix: "eu-isoe-",
    },
    Partition {
        name: "aws-iso-f",
        suffix: "csp.hci.ic.gov",
        dual_stack_suffix: "api.aws.hci.ic.gov",
        iam_region: "us-isof-south-1",
        prefix: "us-isof-",
    },
    Partition {
        name: "aws",
        suffix: "amazonaws.com",
        dual_stack_suffix: "api.aws",
        iam_region: "us-east-1",
        prefix: "",
    },
];

impl Partition {
    /// The partition of `region`.
    pub fn of(region: &str) -> Self {
        let found = PARTITIONS
            .into_iter()
            .find(|partition| region.starts_with(partition.prefix));
        found.unwrap_or(PARTITIONS[PARTITIONS.len() - 1])
    }

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        PARTITIONS.into_iter()
    }

    /// `text`, whose ARNs are written for the partition `aws`, with those of this one.
    pub(crate) fn in_arns(self, text: &str) -> String {
        text.replace("arn:aws:", &format!("arn:{}:", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_region_is_in_its_partition() {
        for (region, name, suffix) in [
            ("eu-west-1", "aws", "amazonaws.com"),
            ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
            ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
            ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
            ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
            ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
        ] {
            let partition = Partition::of(region);
            assert_eq!(
                (partition.name, partition.suffix),
                (name, suffix),
                "{region}"
            );
        }
    }

    #[test]
    fn a_policy_is_written_for_another_partition() {
        assert_eq!(
            Partition::of("cn-north-1").in_arns("\"arn:aws:ssm:*:*:session/*\""),
            "\"arn:aws-cn:ssm:*:*:session/*\""
        );
    }
}
