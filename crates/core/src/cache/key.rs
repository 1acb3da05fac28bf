//! What decides which fleet is meant.

use std::{fmt::Write as _, path::Path, time::SystemTime};

use ops_profile::Settings;
use ops_ui::{Env, Invocation};

use super::FleetFile;
use crate::{
    aws::{hex_digest, options::AwsOptions},
    inventory::Query,
};

/// Names the file through which a child process finds the sandbox of the command that started it.
pub const SANDBOX_STATE: &str = "OPS_SANDBOX_STATE";
/// Set where the sandbox is one of the process's own: its port and keys are new each time, its
/// fleet is not.
pub const EMBEDDED: &str = "OPS_SANDBOX_EMBEDDED";

/// Variables that say where credentials come from, or whose they are. None of their values is a
/// secret.
const SOURCES: [&str; 8] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
];
const ENDPOINTS: [&str; 5] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_EC2",
    "AWS_ENDPOINT_URL_SSM",
    "AWS_ENDPOINT_URL_STS",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
];
const FLEET: [&str; 3] = [
    "OPS_SANDBOX_FLEET",
    "OPS_SANDBOX_FLEET_SIZE",
    "OPS_SANDBOX_FAULT",
];

pub(super) fn fleet_file(invocation: &Invocation, settings: &Settings) -> FleetFile {
    let options = AwsOptions::of(invocation, settings);
    let (globals, env) = (&invocation.globals, &invocation.env);
    let profile = settings.profile();
    let mut text = String::new();
    let mut put = |name: &str, value: &dyn std::fmt::Debug| {
        let _ = writeln!(text, "{name}={value:?}");
    };
    put("team", &options.team);
    // What the profile selects, and how it names.
    put("query", &Query::of_targets(profile));
    put("account", &options.account);
    put("sandbox", &globals.sandbox);
    if globals.sandbox && env.var(EMBEDDED).is_some() {
        // It has one set of keys and one region of its own; who asks before it runs knows neither.
        put("region", &(&globals.region, &profile.aws.region));
        variables(env, &FLEET, &mut put);
        if let Some(fleet) = env.path(FLEET[0]) {
            put("fleet", &changed(&fleet));
        }
    } else {
        put("profile", &(&options.profile, options.profile_is_explicit));
        put("role", &options.role);
        put("regions", &regions(&options));
        put("endpoints", &(&options.endpoints, &options.endpoint_url));
        variables(env, &ENDPOINTS, &mut put);
        variables(env, &SOURCES, &mut put);
        if !options.sandbox {
            // Other programs rewrite these files, and may put another account into them.
            let files = &settings.aws_files;
            put(
                "files",
                &(changed(&files.config), changed(&files.credentials)),
            );
        }
    }
    let account = options.account.clone();
    FleetFile {
        folder: super::folder(&invocation.paths),
        key: hex_digest(text.as_bytes()),
        account,
    }
}

/// The regions that are listed: those in which targets are looked up. None where only the machine
/// itself knows.
pub(super) fn regions(options: &AwsOptions) -> Vec<String> {
    options.list_regions.clone()
}

fn variables(env: &Env, names: &[&str], put: &mut impl FnMut(&str, &dyn std::fmt::Debug)) {
    for name in names {
        if let Some(value) = env.var(name) {
            put(name, &value);
        }
    }
}

/// When a file was changed and how long it is; `None` if it is not there.
fn changed(path: &Path) -> Option<(SystemTime, u64)> {
    let data = path.metadata().ok()?;
    Some((data.modified().ok()?, data.len()))
}
