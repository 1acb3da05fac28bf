//! `ops config init`

use std::path::Path;

use ops_core::Context;
use ops_profile::{
    edit::{self, NewValue},
    is_name,
};
use ops_ui::{Error, Exit, Result, hint};

use super::file::{ConfigFile, mistake_reason, team_profiles};

/// What a first profile looks like. What is answered takes the place of the values here, and what
/// is left open goes; the comments say what else there is.
const TEMPLATE: &str = "\
# How our team reaches its servers. Every key: ops config schema, or profiles/README.md of ops.
description: NAME
aws:
  profile: PROFILE # in ~/.aws/config; credentials in the environment come before it
  region: REGION
  # account: \"123456789012\" # twelve digits, in quotes; ops stops in any other account
select:
  tags: {} # the servers that this team sees; without it all of them
ssh:
  user: USER # without it the user of the server's image
  # auth: instance-connect # nobody needs a key of their own
# forwards:
#   db: { via: bastion, listen: 3307, to: \"db.internal:3306\" } # ops forward db
# aliases:
#   web: ls 'web-*' # ops web
# For production:
# guard: { protect: true, confirm: type-name, color: red }
# session: { reason: required }
";

/// The answers; those that were given on the command line are not asked for.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct InitArgs {
    /// What -p will call it
    name: Option<String>,
    /// Tag of the servers that the team sees
    #[arg(long, value_name = "KEY=VALUE")]
    select: Option<String>,
    /// User to log in as with ssh
    #[arg(long, value_name = "USER")]
    ssh_user: Option<String>,
}

/// Asks what is not known, five questions at most, and writes the profile.
pub(super) async fn init_profile(cx: &Context, args: &InitArgs) -> Result<Exit> {
    let output = cx.output();
    let settings = cx.settings()?;
    let aws_profiles: Vec<&str> = settings.aws_files.names().collect();
    let known = settings.aws_profile.value.as_deref();
    let is_asked = output.may_ask();
    if !is_asked && args.name.is_none() {
        return Err(Error::usage("how shall the profile be called?")
            .caused_by("there is no terminal to ask on")
            .hint("ops config init shop --aws-profile shop --region eu-west-1"));
    }

    let name = match &args.name {
        Some(name) => name.clone(),
        None => ask_question(cx, "Name of the profile", known.unwrap_or("team")).await?,
    };
    if !is_name(&name) {
        return Err(
            Error::usage(format!("`{name}` cannot be the name of a profile"))
                .caused_by("it becomes a file name: letters, digits, `-`, `_` and `.`"),
        );
    }
    if let Some(found) = team_profiles(cx)?.iter().find(|found| found.name == name) {
        return Err(Error::usage(format!("there is a profile `{name}` already"))
            .caused_by(format!("it is {}", found.path.display()))
            .hint(hint!("change it: ops config edit {}", name)));
    }

    let aws_profile = match known {
        Some(known) => known.to_owned(),
        None if is_asked => {
            if !aws_profiles.is_empty() {
                output.note(format!("AWS profiles: {}", aws_profiles.join(", ")));
            }
            let has = |name: &&&str| aws_profiles.contains(name);
            let default = ["default"].iter().find(has).copied();
            let default = default.or(aws_profiles.first().copied());
            ask_question(cx, "AWS profile", default.unwrap_or("")).await?
        }
        None => String::new(),
    };
    let region = match &settings.region.value {
        Some(region) if settings.region.is_explicit() || !is_asked => region.clone(),
        known => {
            let of_profile = settings.aws_files.region(&aws_profile);
            let default = of_profile.or(known.as_deref()).unwrap_or("eu-west-1");
            if is_asked {
                ask_question(cx, "Region", default).await?
            } else {
                of_profile.unwrap_or_default().to_owned()
            }
        }
    };
    let select = match &args.select {
        Some(select) => select.clone(),
        None if is_asked => ask_question(cx, "Tag of your servers, Key=Value (all)", "").await?,
        None => String::new(),
    };
    let user = match &args.ssh_user {
        Some(user) => user.clone(),
        None if is_asked => ask_question(cx, "User for ssh (the image's)", "").await?,
        None => String::new(),
    };

    let file = ConfigFile::new_profile(cx, &name);
    let text = profile_text(&file.path, &name, &aws_profile, &region, &select, &user)?;
    let mistakes = file.mistakes(cx, &text)?;
    if let Some(mistake) = mistakes.first() {
        return Err(Error::usage("no profile was written")
            .caused_by(mistake_reason(mistake))
            .hinted_as(mistake));
    }
    file.write(&text)?;
    output.note(format!("written: {}", file.path.display()));
    output.note(hint!("its servers: ops -p {} ls", name).to_string());
    output.note(hint!("use it from now on: ops config use {}", name).to_string());
    Ok(Exit::SUCCESS)
}

/// What is typed, or `default`.
async fn ask_question(cx: &Context, question: &str, default: &str) -> Result<String> {
    let question = match default {
        "" => format!("{question}: "),
        default => format!("{question} [{default}]: "),
    };
    let answer = cx.output().ask(question).await?.unwrap_or_default();
    Ok(match answer.trim() {
        "" => default.to_owned(),
        answer => answer.to_owned(),
    })
}

/// [`TEMPLATE`] with what was answered; what was left open is taken out.
fn profile_text(
    path: &Path,
    name: &str,
    aws_profile: &str,
    region: &str,
    select: &str,
    user: &str,
) -> Result<String> {
    let mut text = edit::set(path, TEMPLATE, "description", NewValue::Text(name))?;
    for (key, value) in [
        ("aws.profile", aws_profile),
        ("aws.region", region),
        ("ssh.user", user),
    ] {
        text = match value {
            // Each has a comment below it, which stays.
            "" => edit::unset(path, &text, key)?.unwrap_or(text),
            value => edit::set(path, &text, key, NewValue::Text(value))?,
        };
    }
    if select.is_empty() {
        return Ok(edit::unset(path, &text, "select")?.unwrap_or(text));
    }
    let Some((key, value)) = select.split_once('=').filter(|(key, _)| !key.is_empty()) else {
        return Err(Error::usage(format!("`{select}` is no tag"))
            .hint("write it as Key=Value, such as Team=shop"));
    };
    let key = key.replace('\\', r"\\").replace('.', r"\.");
    edit::set(
        path,
        &text,
        &format!("select.tags.{key}"),
        NewValue::Text(value),
    )
}
