//! The command `console`.

use std::time::Duration;

use ops_core::{Command, Context, Query, Values, resolve::ChoiceArgs};
use ops_profile::{Instance, Target};
use ops_ui::{Error, ErrorKind, Exit, Format, Output, Result, browser, hint};
use tokio::time::timeout;

use crate::{
    handover::{Handover, PATIENCE},
    page::{self, Page, Partition},
    socket_owner::Owner,
};

/// Open a server in the AWS console
///
/// Opens the browser (`BROWSER`, else the desktop's) at a page about the server, in its region
/// and partition. Without a display the URL is printed.
///
/// `--login` signs in with the credentials in use, so that the page opens in the right account. The
/// URL it makes is good for 15 minutes, for whoever has it: it is handed to a browser of this user,
/// once, without showing in the list of processes. It is printed with --print, without a browser,
/// and on systems that do not tell which user a connection comes from.
#[derive(clap::Args, Debug)]
pub struct Console {
    /// Id, Name, glob, tag:Key=Value, IP or DNS name
    #[arg(value_name = "TARGET")]
    target: Target,
    /// connect, session, instance, metrics or fleet
    #[arg(
        long,
        value_name = "PAGE",
        value_enum,
        default_value = "connect",
        hide_possible_values = true
    )]
    page: Page,
    /// Print the URL alone, open nothing
    #[arg(long)]
    print: bool,
    /// Sign in with the credentials in use
    #[arg(long)]
    login: bool,
    /// Open the sign-in URL where others could ask for it too
    ///
    /// On systems that do not tell which user a connection is from, the URL is printed unless this
    /// is given.
    #[arg(long, requires = "login", conflicts_with = "print")]
    open: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

impl Command for Console {
    const NAME: &'static str = "console";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops console web-1", "EC2's Connect page of the server"),
        (
            "ops console web-1 --page metrics --login",
            "its metrics, signed in",
        ),
        (
            "ops console web-1 --print",
            "the URL, to be sent to somebody",
        ),
    ];

    const COMPLETES: &'static [(&'static str, Values)] = &[("target", Values::Target)];

    async fn run(self, cx: Context) -> Result<Exit> {
        let output = cx.output();
        let instance = match cx.resolve_whole(&self.target, self.choice.choice()).await {
            // A stopped instance has pages too.
            Err(error) if error.kind() == ErrorKind::Unreachable => {
                match in_any_state(&cx, &self.target).await? {
                    Some(instance) => instance,
                    None => return Err(error),
                }
            }
            resolved => resolved?,
        };
        let page = page::page_url(self.page, &instance);
        // A document is for a program, which opens nothing.
        let is_document = matches!(output.format(), Format::Json | Format::Yaml);
        let print = self.print || is_document || !browser::is_there(cx.env());
        if print && !self.print && !is_document {
            output.note("no browser here: open the URL elsewhere");
        }
        if !self.login {
            if !print && browser::open(cx.env(), output, &page).await {
                return Ok(Exit::SUCCESS);
            }
            tell_link(output, &instance, &page, None)?;
            return Ok(Exit::SUCCESS);
        }

        cx.check_account().await?;
        let endpoint = Partition::of(&instance.region).federation;
        let spinner = output.spinner("signing in");
        let signed = cx.sign_in(&page, endpoint).await;
        drop(spinner);
        let signed = signed?;
        output.note(format!(
            "the sign-in URL is good for {} minutes, for whoever has it",
            signed.lifetime.as_secs() / 60
        ));
        if print {
            tell_link(output, &instance, &signed.url, Some(signed.lifetime))?;
            return Ok(Exit::SUCCESS);
        }
        self.hand_over(&cx, signed.url).await?;
        Ok(Exit::SUCCESS)
    }
}

impl Console {
    /// Starts the browser and leads it on to `url`, or prints `url` where it could be taken by
    /// somebody else.
    async fn hand_over(&self, cx: &Context, url: String) -> Result<()> {
        let output = cx.output();
        let handover = Handover::new(url.clone()).await?;
        let tells_owners = handover.tells_owners().await?;
        if !self.open && !tells_owners {
            output.note(
                "this system does not tell which user a connection comes from, and shows everybody what a browser is started with: \
                 the sign-in URL is printed, to be opened by you. Where nobody else is on this machine: --open",
            );
            output.line(url)?;
            return Ok(());
        }
        let address = handover.address()?;
        let mut told = Vec::new();
        let serve = handover.serve(!tells_owners, |owner| {
            if !told.contains(&owner) {
                told.push(owner);
                output.warn(match owner {
                    Owner::Other(uid) => format!(
                        "another user of this machine (user id {uid}) asked for the sign-in page and was refused"
                    ),
                    _ => "somebody who cannot be told apart asked for the sign-in page and was refused".to_owned(),
                });
            }
        });
        let instead = || {
            hint!(
                "print the URL and open it yourself: ops console {} --login --print",
                self.target.as_str()
            )
        };
        // A browser that is the user's own may keep running; it has what it needs once it has
        // asked.
        let open = async {
            if !browser::open(cx.env(), output, &address).await {
                return Err(Error::unexpected("no browser could be started").hint(instead()));
            }
            Ok(())
        };
        let both = async { tokio::try_join!(open, async { Ok(serve.await?) }).map(drop) };
        timeout(PATIENCE, both).await.unwrap_or_else(|_| {
            Err(Error::unexpected("the browser did not ask for the page").hint(instead()))
        })
    }
}

/// Writes the URL: a line, or a document that says what it leads to and how long it is good.
fn tell_link(
    output: &Output,
    instance: &Instance,
    url: &str,
    lifetime: Option<Duration>,
) -> Result<()> {
    let document = serde_json::json!({
        "apiVersion": "ops/v1",
        "kind": "ConsoleUrl",
        "id": instance.id,
        "name": instance.name,
        "region": instance.region,
        "url": url,
        "validForSeconds": lifetime.map(|lifetime| lifetime.as_secs()),
    });
    match output.format() {
        Format::Json => output.json(&document),
        Format::Yaml => output.yaml(&document),
        _ => output.line(url),
    }
}

/// The one instance that `target` selects whatever its state; `None` if there are several.
async fn in_any_state(cx: &Context, target: &Target) -> Result<Option<Instance>> {
    let mut query = Query::of(cx.profile()?);
    query.states.clear();
    query.add(target);
    let listing = cx.list(&query, &cx.regions_of(target).await?).await?;
    let mut found = listing.instances;
    Ok(match found.len() {
        1 => found.pop(),
        _ => None,
    })
}
