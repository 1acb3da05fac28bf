//! What a plugin is told through its environment. Never a credential.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
};

use ops_core::Context;
use ops_profile::{schema::endpoint_variable, values::EndpointUrl};
use ops_ui::{Env, Error, Result};

/// The environment of a plugin, and the file behind `OPS_CONTEXT`, which must stay open until the
/// plugin has started.
pub(crate) struct Prepared {
    pub(crate) env: Env,
    pub(crate) context: Option<File>,
}

/// What `cx` has settled, for a plugin.
///
/// # Errors
/// The path of this program or a temporary file cannot be had.
pub(crate) fn prepare_environment(cx: &Context) -> Result<Prepared> {
    let settings = cx.settings()?;
    let profile = settings.profile();
    let mut env = cx.env().clone();
    let bin = std::env::current_exe()
        .map_err(|error| Error::unexpected("cannot tell where ops itself is").caused_by(error))?;
    env.set("OPS_API", "1");
    env.set("OPS_BIN", bin);
    env.set("OPS_VERSION", env!("CARGO_PKG_VERSION"));
    let verbose = settings.verbose.value;
    let own = [
        ("OPS_PROFILE", settings.profile.value.clone()),
        ("OPS_REGION", settings.region.value.clone()),
        ("OPS_OUTPUT", Some(name_of(&settings.output.value))),
        ("OPS_COLOR", Some(name_of(&settings.color.value))),
        ("OPS_VERBOSE", (verbose > 0).then(|| verbose.to_string())),
        (
            "OPS_NO_INPUT",
            settings.no_input.value.then(|| "1".to_owned()),
        ),
    ];
    for (name, value) in own {
        match value {
            Some(value) => env.set(name, value),
            None => env.remove(name),
        }
    }
    // The sandbox's own environment says all this already.
    if !settings.sandbox.value {
        let aws = [
            ("AWS_PROFILE", settings.aws_profile.value.clone()),
            ("AWS_REGION", settings.region.value.clone()),
            (
                "AWS_ENDPOINT_URL",
                profile.aws.endpoint_url.as_ref().map(text_of),
            ),
        ];
        for (name, value) in aws {
            if let Some(value) = value {
                env.set(name, value);
            }
        }
        // No SDK has a client of ssmmessages, whose web sockets are for us alone.
        let of_services = profile.aws.endpoints.each().into_iter();
        for (key, url) in of_services.filter(|(key, _)| *key != "ssmmessages") {
            if let Some(url) = url {
                env.set(endpoint_variable(key), text_of(url));
            }
        }
    }
    let context = context_file(cx, &mut env)?;
    Ok(Prepared { env, context })
}

/// A file that has no name any more and is gone with its last reader: nothing has to be cleaned up
/// after a plugin that took our place.
#[cfg(unix)]
fn context_file(cx: &Context, env: &mut Env) -> Result<Option<File>> {
    use std::os::fd::AsRawFd as _;
    let failed = |error: std::io::Error| {
        Error::unexpected("cannot write the plugin's context").caused_by(error)
    };
    let mut file = tempfile::tempfile().map_err(failed)?;
    let document = crate::policy::describe_policy(cx)?;
    file.write_all(document.to_string().as_bytes())
        .and_then(|()| file.rewind())
        .map_err(failed)?;
    // Inherited on purpose; every other descriptor closes when the plugin starts.
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())
        .map_err(|error| failed(error.into()))?;
    env.set("OPS_CONTEXT", format!("/dev/fd/{}", file.as_raw_fd()));
    Ok(Some(file))
}

#[cfg(not(unix))]
fn context_file(_cx: &Context, _env: &mut Env) -> Result<Option<File>> {
    Ok(None)
}

fn name_of(value: &impl clap::ValueEnum) -> String {
    let name = value.to_possible_value();
    name.map(|name| name.get_name().to_owned())
        .unwrap_or_default()
}

fn text_of(url: &EndpointUrl) -> String {
    url.as_str().to_owned()
}
