//! `ops config edit`

use std::{fs, path::Path, process::Command as Process};

use ops_core::Context;
use ops_ui::{Env, Error, Exit, Result, confirm::Preset, hint, temporary::TemporaryFolder};

use super::file::{ConfigFile, cannot_write, no_temporary_folder};

/// What an empty config.yaml begins with in the editor.
const EMPTY: &str = "\
# Your own defaults: what holds where no flag, variable, team profile or AWS configuration says
# otherwise. Every key: ops config schema --user
#
# profile: shop
# output: wide
# ssh: { user: ec2-user }
";

/// Opens a copy in the editor until it is right, or given up; only what is right takes the place of
/// the file.
pub(super) async fn edit_profile(cx: &Context, name: Option<&str>) -> Result<Exit> {
    let file = match name {
        Some(name) => ConfigFile::team(cx, name)?,
        None => ConfigFile::typed(cx)?,
    };
    let output = cx.output();
    if !output.may_ask() {
        return Err(Error::usage("there is no terminal for an editor")
            .hint("change one key without it: ops config set KEY VALUE"));
    }
    let before = file.read()?;
    // A process that is killed leaves what the user has typed so far, which nobody removes.
    let folder = TemporaryFolder::without_sweep("ops-edit-").map_err(no_temporary_folder)?;
    let copy = folder.path().join(file.file_name());
    let start = if before.is_empty() { EMPTY } else { &before };
    fs::write(&copy, start).map_err(|error| cannot_write(&copy, error))?;
    loop {
        run_editor(cx.env(), &copy)?;
        let after = fs::read_to_string(&copy)
            .map_err(|error| Error::usage("cannot read what was edited").caused_by(error))?;
        if after == start {
            output.note(format!("nothing was changed: {}", file.path.display()));
            return Ok(Exit::SUCCESS);
        }
        let mistakes = file.mistakes_of(cx, &copy)?;
        if mistakes.is_empty() {
            file.write(&after)?;
            output.note(format!("written: {}", file.path.display()));
            return Ok(Exit::SUCCESS);
        }
        for mistake in &mistakes {
            output.error(mistake);
        }
        let answer = output.confirm("Edit it again?", Preset::Yes).await?;
        if !answer.is_yes() {
            let kept = folder.keep().join(file.file_name());
            return Err(
                Error::usage(format!("{} is as it was", file.path.display()))
                    .caused_by("what was written in the editor is not right")
                    .hint(hint!("it is kept: {}", kept)),
            );
        }
    }
}

/// Runs the editor on `path` and waits for it.
fn run_editor(env: &Env, path: &Path) -> Result<()> {
    let named = ["OPS_EDITOR", "VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| env.var(name).filter(|line| !line.trim().is_empty()));
    let line = named.unwrap_or("vi");
    let failed = |why: String| {
        Error::usage(format!("the editor `{line}` did not end well"))
            .caused_by(why)
            .hint("name another: EDITOR=nano ops config edit")
    };
    let words = shell_words::split(line).map_err(|error| failed(error.to_string()))?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(failed("it names no program".to_owned()));
    };
    let status = Process::new(program)
        .args(arguments)
        .arg(path)
        .env_clear()
        .envs(env.iter())
        .status()
        .map_err(|error| failed(error.to_string()))?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(status.to_string()))
    }
}
