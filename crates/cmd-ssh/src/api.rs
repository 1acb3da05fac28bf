//! `ops api`: what other programs build on, versioned and stable.

use std::collections::BTreeMap;

use ops_core::{
    Command, Context, Traits, Values,
    resolve::{ChoiceArgs, SessionArgs},
};
use ops_profile::{Instance, InstanceState, Kind, Target};
use ops_ui::{Exit, Format, Result};
use serde::Serialize;

use crate::ssh_proxy::SshProxy;

/// Version of the documents and of the streams below: within one, fields are only added.
const API_VERSION: &str = "ops.api/v1";

/// Resolve and reach servers from other programs
///
/// Both are stable within a version (`ops.api/v1`) and described in docs/plugins.md.
#[derive(clap::Args, Debug)]
pub struct Api {
    #[command(subcommand)]
    call: Call,
}

#[derive(clap::Subcommand, Debug)]
enum Call {
    /// Print which server a target means, as JSON
    ///
    /// One object on one line, unless `-o yaml` is given. Names, globs, tags, addresses and the
    /// profile's rules work as in every verb; a target that means several is an error, exit 6.
    Resolve(Resolve),
    /// Connect standard input and output to a port of a server
    ///
    /// Nothing but the connection's bytes is read from standard input and written to standard
    /// output. The connection goes to the server itself, as ssh's does: its `localhost`. It ends
    /// with exit 0 when the server closes it, or a while after the end of the input. A profile that
    /// forbids `ssh` forbids it.
    Connect(Connect),
}

#[derive(clap::Args, Debug)]
struct Resolve {
    /// Name, id, glob, tag:Key=Value or private address
    target: Target,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(clap::Args, Debug)]
struct Connect {
    /// Name, id, glob, tag:Key=Value or private address
    target: Target,
    /// Port on the server
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    #[command(flatten)]
    session: SessionArgs,
}

/// What `resolve` says of a server.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resolved<'a> {
    api_version: &'static str,
    id: &'a str,
    name: Option<&'a str>,
    kind: Kind,
    state: InstanceState,
    region: &'a str,
    zone: Option<&'a str>,
    private_ip: Option<&'a str>,
    private_dns: Option<&'a str>,
    platform: Option<&'a str>,
    tags: &'a BTreeMap<String, String>,
}

impl Command for Api {
    const NAME: &'static str = "api";
    const TRAITS: Traits = Traits {
        without_forms: &["connect"],
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops api resolve web-1", "its id, region, addresses, tags"),
        (
            "ops api connect web-1 22",
            "the bytes of a connection, on standard streams",
        ),
    ];
    const COMPLETES: &'static [(&'static str, Values)] = &[("target", Values::Target)];

    async fn run(self, cx: Context) -> Result<Exit> {
        match self.call {
            Call::Resolve(call) => {
                let found = cx.resolve_whole(&call.target, call.choice.choice()).await?;
                let answer = Resolved::from(&found);
                match cx.output().format() {
                    Format::Yaml => cx.output().yaml(&answer)?,
                    _ => cx.output().json(&answer)?,
                }
                Ok(Exit::SUCCESS)
            }
            Call::Connect(call) => {
                let stream = SshProxy::for_program(call.target, call.port, call.session);
                stream.carry(&cx, false).await
            }
        }
    }
}

impl<'a> From<&'a Instance> for Resolved<'a> {
    fn from(instance: &'a Instance) -> Self {
        Self {
            api_version: API_VERSION,
            id: &instance.id,
            name: instance.name.as_deref(),
            kind: instance.kind,
            state: instance.state,
            region: &instance.region,
            zone: instance.zone.as_deref(),
            private_ip: instance.private_ip.as_deref(),
            private_dns: instance.private_dns.as_deref(),
            platform: instance.platform.as_deref(),
            tags: &instance.tags,
        }
    }
}
