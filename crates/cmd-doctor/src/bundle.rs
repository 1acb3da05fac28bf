//! `--bundle`: everything that was found, for a bug report, with stand-ins for what is private.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use ops_core::Context;
use ops_ui::{Error, ErrorKind, Result};

use crate::{report::Report, stand_ins::StandIns};

const SYSTEM: &str = if cfg!(target_os = "macos") {
    "macOS"
} else {
    "Linux"
};
/// Lines of the last log.
const LOG_LINES: usize = 60;
/// A log is read from its end.
const LOG_BYTES: usize = 64 << 10;

/// Shows the bundle and writes it to `file` (0600), after a question where one may be asked.
///
/// # Errors
/// Nobody may be asked and `--yes` is not given (9); the file cannot be written.
pub(crate) async fn write(cx: &Context, report: &Report<'_>, file: &Path) -> Result<()> {
    let text = text(cx, report).await;
    let output = cx.output();
    output.stderr_page(&format!(
        "\n-- what goes into {}\n{text}--\n",
        file.display()
    ));
    if !cx.globals().yes {
        if !output.may_ask() {
            return Err(Error::new(ErrorKind::Refused, "the report is not written")
                .caused_by("nobody can be asked whether the text above may be kept")
                .hint("look at it, then write it without a question: --yes"));
        }
        let answer = output.ask("write this? [y/N]").await?;
        if !answer.is_some_and(|answer| answer.trim().eq_ignore_ascii_case("y")) {
            output.note("nothing was written");
            return Ok(());
        }
    }
    write_for_user(file, text.as_bytes()).map_err(|error| {
        Error::unexpected(format!("cannot write `{}`", file.display())).caused_by(error)
    })?;
    output.note(format!("written: {}", file.display()));
    Ok(())
}

/// Writes into the file that the user named: one that is there keeps its place, so that a device
/// stays one, and nothing is done to its folder, which is not ours.
fn write_for_user(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    options.mode(0o600);
    let mut open = options.open(file)?;
    if open.metadata()?.is_file() {
        // Before a byte is in it.
        open.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    open.write_all(bytes)
}

async fn text(cx: &Context, report: &Report<'_>) -> String {
    let findings = report.findings();
    let mut plain = String::new();
    let _ = writeln!(plain, "ops {} on {SYSTEM}", env!("CARGO_PKG_VERSION"));
    let variables: Vec<String> = cx
        .env()
        .iter()
        .filter_map(|(name, _)| name.to_str())
        .filter(|name| {
            ["AWS_", "OPS_", "XDG_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
                || name.to_uppercase().ends_with("_PROXY")
        })
        .map(str::to_owned)
        .collect();
    let _ = writeln!(plain, "variables that are set: {}", variables.join(" "));
    let document = report.document(&findings);
    let document = serde_json::to_string_pretty(&document).unwrap_or_default();
    let _ = writeln!(plain, "{document}");
    if let Some(log) = last_log(&cx.paths().state) {
        let _ = writeln!(plain, "last log:\n{log}");
    }
    StandIns::of(private_names(cx, report).await).apply(&plain)
}

/// What of this user and these servers is known by name.
async fn private_names(cx: &Context, report: &Report<'_>) -> Vec<(String, &'static str)> {
    let mut names: Vec<(String, &'static str)> = Vec::new();
    let mut add = |name: Option<&str>, kind| names.extend(name.map(|name| (name.to_owned(), kind)));
    add(cx.env().var("USER"), "user");
    add(cx.env().var("AWS_PROFILE"), "profile");
    add(cx.globals().profile.as_deref(), "profile");
    add(cx.globals().aws_profile.as_deref(), "profile");
    let home = cx.paths().home.display().to_string();
    add(Some(&home), "path");
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    add(Some(host.trim()), "host");
    if let Ok(identity) = cx.identity().await {
        add(Some(&identity.user_id), "user");
        // What stands behind the account: the user, or the role and its session.
        let own = identity.arn.rsplit(':').next().unwrap_or_default();
        for part in own.split('/').skip(1) {
            add(Some(part), "user");
        }
    }
    for name in report.private_names() {
        add(Some(&name), "name");
    }
    names
}

/// The end of the newest log below `folder`.
fn last_log(folder: &Path) -> Option<String> {
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() && depth < 2 {
                folders.push((path, depth + 1));
            } else if path.extension().is_some_and(|end| end == "log")
                && let Ok(time) = metadata.modified()
                && newest.as_ref().is_none_or(|(known, _)| time > *known)
            {
                newest = Some((time, path));
            }
        }
    }
    let bytes = std::fs::read(newest?.1).ok()?;
    let text =
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_BYTES)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    Some(lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"))
}
