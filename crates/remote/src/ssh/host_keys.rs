//! A server's host keys, fetched over a session, so that the first contact is not trust on first
//! use.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use ops_session::driver::Event;

use ops_core::{BoxFuture, Context, Document, OpenOptions};
use ops_profile::Instance;
use ops_ui::{Error, Result, hint, paths};

/// Prints the public host keys. The variable is set by the embedded sandbox alone, whose instances
/// keep their keys in a folder of their own.
const PRINT_KEYS: &str = "sh -c 'cat \"${OPS_SANDBOX_HOST_KEYS:-/etc/ssh}\"/ssh_host_*_key.pub'";
/// Far more than a server's keys take, in bytes.
const KEYS_BYTES_MAX: usize = 64 << 10;

/// Fetches the keys of `instance` and pins them under its id in `file`, unless some are there
/// already. Behind another port than 22 ssh looks for `[ID]:PORT` where no alias is set, so that
/// name is pinned too.
///
/// # Errors
/// The session cannot be opened, or the far side shows no key.
pub fn pin<'a>(
    cx: &'a Context,
    instance: &'a Instance,
    port: u16,
    file: &'a Path,
    reason: Option<String>,
) -> BoxFuture<'a, Result<()>> {
    Box::pin(pin_unboxed(cx, instance, port, file, reason))
}

async fn pin_unboxed(
    cx: &Context,
    instance: &Instance,
    port: u16,
    file: &Path,
    reason: Option<String>,
) -> Result<()> {
    let mut names = instance.id.clone();
    if port != 22 {
        names = format!("{names},[{names}]:{port}");
    }
    let known = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(
                Error::unexpected(format!("cannot read `{}`", file.display())).caused_by(error),
            );
        }
    };
    let is_known = |line: &str| {
        let mut of_line = line.split(' ').next().unwrap_or_default().split(',');
        of_line.any(|name| names.split(',').next_back() == Some(name))
    };
    if known.lines().any(is_known) {
        return Ok(());
    }
    let printed = print(cx, instance, reason).await?;
    let keys = parse(&printed);
    if keys.is_empty() {
        return Err(Error::target(format!(
            "no host keys could be fetched from `{}`",
            instance.label()
        ))
        .caused_by("no line of /etc/ssh/ssh_host_*_key.pub came back over the session")
        .hint(hint!(
            "trust the first contact instead: ops ssh --host-keys accept-new {}",
            instance.target_word()
        )));
    }
    let mut text = String::new();
    if !known.is_empty() && !known.ends_with('\n') {
        text.push('\n');
    }
    for key in &keys {
        text.push_str(&format!("{names} {key}\n"));
    }
    append(file, &text).map_err(|error| {
        Error::unexpected(format!("cannot write `{}`", file.display())).caused_by(error)
    })?;
    cx.output().note(format!(
        "ops: pinned {} host keys of {} ({})",
        keys.len(),
        instance.label(),
        instance.id
    ));
    Ok(())
}

/// In one write at the end of the file: ssh does the same, and others may be at it for other
/// servers.
fn append(file: &Path, text: &str) -> io::Result<()> {
    // Not where others may rely on its permissions.
    if let Some(folder) = file.parent().filter(|folder| !folder.exists()) {
        paths::private_dir(folder.to_owned())?;
    }
    fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)?
        .write_all(text.as_bytes())
}

async fn print(cx: &Context, instance: &Instance, reason: Option<String>) -> Result<Vec<u8>> {
    let document = Document::NonInteractive {
        command: PRINT_KEYS.to_owned(),
    };
    let connection = cx
        .open(instance, document, OpenOptions::reason(reason))
        .await?;
    let (mut session, ending) = connection.into_parts();
    let mut printed = Vec::new();
    loop {
        match session.events.next().await {
            Some(Event::Output(bytes)) if printed.len() + bytes.len() <= KEYS_BYTES_MAX => {
                printed.extend_from_slice(&bytes);
            }
            Some(Event::Closed(closing)) => {
                if let Some(error) = ending.closed(&closing) {
                    return Err(error);
                }
                ending.ended();
                return Ok(printed);
            }
            Some(Event::Failed(error)) => return Err(ending.failed(&error)),
            Some(Event::Output(_)) | None => break,
            Some(_) => {}
        }
    }
    ending.terminate().await;
    Ok(printed)
}

/// The keys among the lines, type and base64 only; what comes from the far side is taken for
/// nothing else.
fn parse(printed: &[u8]) -> BTreeSet<String> {
    String::from_utf8_lossy(printed)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (kind, key) = (words.next()?, words.next()?);
            let known = kind.starts_with("ssh-")
                || kind.starts_with("ecdsa-sha2-")
                || kind.starts_with("sk-");
            let plain = kind.len() <= 64
                && kind
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-@.".contains(&b))
                && key.len() >= 32
                && key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
            (known && plain).then(|| format!("{kind} {key}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_are_taken_from_what_the_far_side_printed() {
        let key = "AAAAC3NzaC1lZDI1NTE5AAAAIMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl0";
        let printed = format!(
            "cat: no such file\r\nssh-ed25519 {key} root@web-1\r\n* ssh-rsa {key}\nssh-dss short\n"
        );
        assert_eq!(
            parse(printed.as_bytes()).into_iter().collect::<Vec<_>>(),
            [format!("ssh-ed25519 {key}")]
        );
    }
}
