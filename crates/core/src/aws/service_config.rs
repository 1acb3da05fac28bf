//! What the SDK reads of the environment and the AWS configuration files for each service, with
//! empty values left out.
//!
//! A variable that is set to nothing counts as one that is not set, for the AWS CLI and for `ops`.
//! The SDK takes it for a value, and panics over an endpoint that is empty.

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use ops_profile::aws_files::AwsFiles;

/// Stands in front of the SDK's own reading.
#[derive(Debug)]
struct FilledServiceConfig {
    /// Has the SDK's own reading.
    sdk: SdkConfig,
    files: Arc<AwsFiles>,
    profile: String,
    /// Endpoints of the configuration are not to be used, whatever they are.
    ignores_endpoints: bool,
}

impl LoadServiceConfig for FilledServiceConfig {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let is_endpoint = key.profile() == "endpoint_url";
        // As the sections of the files have it: `ec2_instance_connect` for "EC2 Instance Connect".
        let service = key.service_id().to_lowercase().replace([' ', '-'], "_");
        let value = self.sdk.service_config()?.load_config(key)?;
        if !value.trim().is_empty() {
            return Some(value);
        }
        // The variable that is empty hides nothing: the file's turn comes.
        let of_files = self.files.endpoint(&self.profile, &service);
        of_files
            .filter(|_| is_endpoint && !self.ignores_endpoints)
            .map(str::to_owned)
    }
}

/// `sdk` as if no variable that it reads were set to nothing.
pub(super) fn without_empty_values(
    sdk: &SdkConfig,
    files: &Arc<AwsFiles>,
    profile: &str,
    ignores_endpoints: bool,
) -> SdkConfig {
    let mut builder = sdk.to_builder().service_config(FilledServiceConfig {
        sdk: sdk.clone(),
        files: Arc::clone(files),
        profile: profile.to_owned(),
        ignores_endpoints,
    });
    if sdk.endpoint_url().is_some_and(|url| url.trim().is_empty()) {
        let of_files = files.endpoint(profile, "");
        let of_files = of_files.filter(|_| !ignores_endpoints).map(str::to_owned);
        builder.set_endpoint_url(of_files);
    }
    builder.build()
}
