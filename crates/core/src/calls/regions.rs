//! The regions of an invocation, and URLs that carry their own permission.

use std::time::Duration;

use ops_ui::{Error, Result};

use crate::{BoxFuture, aws::presign_s3, context::Context};

impl Context {
    /// The region of this invocation: `--region`, `OPS_REGION`, the profile's, `AWS_REGION`, the
    /// AWS profile's, the instance's own.
    ///
    /// # Errors
    /// Nothing names one; or several were given where one is meant.
    pub async fn region(&self) -> Result<String> {
        let aws = self.aws().await?;
        if aws.options().regions.len() > 1 {
            return Err(Error::usage("this command works in one region")
                .caused_by(format!("given: {}", aws.options().regions.join(", ")))
                .hint("give --region once"));
        }
        aws.region().map(str::to_owned)
    }

    /// The regions of a list: all that `--region` names, else the profile's `aws.regions`, else the
    /// one region.
    ///
    /// # Errors
    /// Nothing names one.
    pub async fn regions(&self) -> Result<Vec<String>> {
        let aws = self.aws().await?;
        let chosen = &aws.options().list_regions;
        if !chosen.is_empty() {
            let mut regions: Vec<String> = Vec::new();
            for region in chosen {
                if !regions.contains(region) {
                    regions.push(region.clone());
                }
            }
            return Ok(regions);
        }
        Ok(vec![aws.region()?.to_owned()])
    }

    /// Every region that the account has enabled (DescribeRegions), by name.
    ///
    /// # Errors
    /// Those of the call.
    pub fn all_regions<'a>(&'a self) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(self.all_regions_unboxed())
    }

    async fn all_regions_unboxed(&self) -> Result<Vec<String>> {
        let aws = self.aws().await?;
        let region = aws.any_region();
        aws.credentials().await?;
        let answer = aws
            .clients(&region)
            .ec2
            .describe_regions()
            .send()
            .await
            .map_err(|error| {
                aws.call("ec2:DescribeRegions", None, &region)
                    .failed("cannot list the regions", &error)
            })?;
        let mut regions: Vec<String> = answer
            .regions
            .unwrap_or_default()
            .into_iter()
            .filter_map(|region| region.region_name)
            .collect();
        regions.sort_unstable();
        Ok(regions)
    }

    /// A URL that allows `method` on an S3 object for `valid_for` without credentials of its
    /// holder.
    ///
    /// # Errors
    /// No credentials, or a URL that cannot be parsed.
    pub(crate) async fn presign_s3(
        &self,
        method: &str,
        url: &str,
        region: &str,
        valid_for: Duration,
    ) -> Result<String> {
        let credentials = self.aws().await?.credentials().await?;
        presign_s3(
            method,
            url,
            region,
            &credentials,
            valid_for,
            std::time::SystemTime::now(),
        )
    }
}
