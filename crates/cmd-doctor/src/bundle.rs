//! `--bundle`: everything that was found, for a bug report, with stand-ins for what is private.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use ops_core::{
    Context,
    cache::{self, Patience},
};
use ops_profile::Profile;
use ops_ui::{Error, ErrorKind, Result, confirm::Preset};
use serde_json::Value;

use crate::{report::Report, stand_ins::StandIns};

const SYSTEM: &str = if cfg!(target_os = "macos") {
    "macOS"
} else {
    "Linux"
};
/// Other names are somebody's own.
const PROXY_VARIABLES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];
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
        if !output.confirm("Write this?", Preset::No).await?.is_yes() {
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
                || PROXY_VARIABLES.contains(&name.to_uppercase().as_str())
        })
        .map(str::to_owned)
        .collect();
    let _ = writeln!(plain, "variables that are set: {}", variables.join(" "));
    let mut document = report.document(&findings);
    leave_out_console(&mut document);
    let document = serde_json::to_string_pretty(&document).unwrap_or_default();
    let _ = writeln!(plain, "{document}");
    if let Some(log) = last_log(&cx.paths().state) {
        let _ = writeln!(plain, "last log:\n{log}");
    }
    StandIns::of(private_names(cx, report).await).apply(&plain)
}

/// Lines of a server's console may hold anything, and nothing in them tells what is a name.
fn leave_out_console(document: &mut Value) {
    let checks = document["checks"].as_array_mut();
    for check in checks.into_iter().flatten() {
        if check["check"] == "console" && check["outcome"] == "ok" {
            check["text"] = "left out of this report".into();
        }
    }
}

/// What of this user and these servers is known by name.
async fn private_names(cx: &Context, report: &Report<'_>) -> Vec<(String, &'static str)> {
    let mut names: Vec<(String, &'static str)> = Vec::new();
    let mut add = |name: Option<&str>, kind| names.extend(name.map(|name| (name.to_owned(), kind)));
    for variable in ["USER", "LOGNAME"] {
        add(cx.env().var(variable), "user");
    }
    add(cx.env().var("OPS_PROFILE"), "profile");
    add(cx.env().var("AWS_PROFILE"), "profile");
    add(cx.globals().profile.as_deref(), "profile");
    add(cx.globals().aws_profile.as_deref(), "profile");
    let home = cx.paths().home.clone();
    add(home.to_str(), "path");
    // Its last part is the user's name, which stands elsewhere too.
    add(home.file_name().and_then(|name| name.to_str()), "user");
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
    if let Ok(settings) = cx.settings() {
        add(settings.profile.value.as_deref(), "profile");
        add(settings.aws_profile.value.as_deref(), "profile");
        for name in names_of_profile(settings.profile()) {
            add(Some(&name), "name");
        }
        // The last log is about other servers.
        let at_once = Patience {
            until: Instant::now(),
        };
        let cached = cache::names(cx.invocation(), settings, at_once);
        for row in cached.iter().filter_map(cache::Names::rows).flatten() {
            add(row.name, "name");
        }
    }
    for recent in cx.recents_of_all_profiles() {
        add(recent.name.as_deref(), "name");
    }
    names
}

/// What a team profile calls things by, and what it names that is the team's.
fn names_of_profile(profile: &Profile) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    names.extend(profile.hosts.keys().cloned());
    names.extend(profile.forwards.keys().cloned());
    names.extend(profile.aws.profile.clone());
    names.extend(profile.copy.s3_bucket.clone());
    names.extend(profile.copy.s3_prefix.clone());
    names.extend(profile.exec.s3_bucket.clone());
    names.extend(profile.exec.log_group.clone());
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
