//! The command `whoami`.

use jiff::Timestamp;
use ops_core::{Command, Context, calls::login::EffectiveCredentials};
use ops_ui::{
    Exit, Format, Output, Result,
    table::{self, Cell, Column},
};
use serde_json::json;

use crate::login::clock_time;

/// Show whose credentials are in use
///
/// Shows the account (with its alias, where it may be read), the caller's ARN, the AWS profile and
/// where the credentials come from, the region, and when credentials and login end.
#[derive(clap::Args, Debug)]
pub struct Whoami {}

impl Command for Whoami {
    const NAME: &'static str = "whoami";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops whoami", "of the profile in use"),
        ("ops whoami -o json", "for a program"),
    ];

    async fn run(self, cx: Context) -> Result<Exit> {
        let credentials = cx.effective_credentials().await?;
        // The alias is welcome and not waited for alone.
        let (identity, alias) = tokio::join!(cx.identity(), cx.account_alias());
        let identity = identity?;
        let who = Who {
            account: &identity.account,
            alias,
            arn: &identity.arn,
            user_id: &identity.user_id,
            team: cx.settings()?.profile.value.as_deref(),
            region: cx.region().await.ok(),
            login_end: cx.login_end().await?,
            credentials,
        };
        who.write(cx.output())?;
        Ok(Exit::SUCCESS)
    }
}

/// What is told.
struct Who<'a> {
    account: &'a str,
    alias: Option<String>,
    arn: &'a str,
    user_id: &'a str,
    /// The team profile.
    team: Option<&'a str>,
    region: Option<String>,
    /// The end of the SSO login behind the credentials.
    login_end: Option<Timestamp>,
    credentials: EffectiveCredentials,
}

impl Who<'_> {
    fn write(&self, output: &Output) -> Result<()> {
        match output.format() {
            Format::Json => output.json(&self.document()),
            Format::Yaml => output.yaml(&self.document()),
            Format::Name => output.line(self.arn),
            _ => self.table(output),
        }
    }

    fn document(&self) -> serde_json::Value {
        let credentials = &self.credentials;
        json!({
            "apiVersion": "ops/v1",
            "kind": "Caller",
            "account": self.account,
            "accountAlias": self.alias,
            "arn": self.arn,
            "userId": self.user_id,
            "profile": self.team,
            "awsProfile": credentials.aws_profile,
            "source": credentials.source.kind,
            "sourceDetail": credentials.source.words,
            "region": self.region,
            "expires": credentials.expires,
            "loginEnds": self.login_end,
        })
    }

    fn table(&self, output: &Output) -> Result<()> {
        let account = match &self.alias {
            Some(alias) => format!("{} ({alias})", self.account),
            None => self.account.to_owned(),
        };
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let credentials = &self.credentials;
        let rows = [
            ("account", account),
            ("arn", self.arn.to_owned()),
            ("profile", text(self.team)),
            ("aws profile", text(credentials.aws_profile.as_deref())),
            ("credentials", credentials.source.words.clone()),
            ("region", text(self.region.as_deref())),
            ("expires", end_text(credentials.expires)),
            (
                "login ends",
                self.login_end
                    .map_or_else(String::new, |end| end_text(Some(end))),
            ),
        ];
        let columns = [Column::new("", Column::KEPT), Column::new("", Column::KEPT)];
        // The titles are the first column: a header would name nothing.
        let rows = rows
            .iter()
            // What there is nothing of need not be told.
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| vec![Cell::new(name), Cell::new(value)]);
        table::write_rows(output, &columns, rows)
    }
}

/// When something ends, and how long that is.
fn end_text(at: Option<Timestamp>) -> String {
    let Some(at) = at else {
        return "never, or nothing tells".to_owned();
    };
    let minutes = at.duration_since(Timestamp::now()).as_secs() / 60;
    let left = match minutes {
        ..=0 => "over".to_owned(),
        1..60 => format!("in {minutes} min"),
        _ => format!("in {} h {} min", minutes / 60, minutes % 60),
    };
    format!("{} ({left})", clock_time(at))
}
