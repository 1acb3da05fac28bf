//! The host key of an instance and the keys that open it.

use std::{fs, io, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use russh::keys::{
    PrivateKey, PublicKey,
    ssh_key::{LineEnding, private::Ed25519Keypair, private::KeypairData},
};

use crate::fleet::InstanceState;

const HOST_KEY: &str = "ssh_host_ed25519_key";

/// The host key, made at first use and kept in the state folder with its public half beside it, as
/// an SSH server keeps it.
///
/// # Errors
/// The key cannot be read, made or written.
pub(in crate::agent) fn host_key(state: &InstanceState) -> io::Result<PrivateKey> {
    let path = state.folder()?.join(HOST_KEY);
    match fs::read_to_string(&path) {
        Ok(text) => return PrivateKey::from_openssh(text).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| io::Error::other("no random numbers"))?;
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    let key = PrivateKey::new(pair, "").map_err(io::Error::other)?;
    let text = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
    match publish(&path, text.as_bytes(), 0o600) {
        // Another session was first: its key is the machine's.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return host_key(state),
        other => other?,
    }
    let public = format!(
        "{}\n",
        key.public_key().to_openssh().map_err(io::Error::other)?
    );
    match publish(&path.with_extension("pub"), public.as_bytes(), 0o644) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(key),
    }
}

/// Writes a file whole or not at all, and never over another.
fn publish(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = path.with_extension(format!("{:016x}", fastrand::u64(..)));
    let result = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    result
}

/// Whether `key` opens the machine for `user`.
///
/// All logins of a machine share one home here, so its `authorized_keys`, there or directly in the
/// state folder, opens every login name. A key pushed by EC2 Instance Connect opens exactly the
/// name it was pushed for.
pub(in crate::agent) fn is_authorized(state: &InstanceState, user: &str, key: &PublicKey) -> bool {
    let matches = |line: &str| parse(line).is_some_and(|known| known.key_data() == key.key_data());
    if state.pushed_keys(user).iter().any(|line| matches(line)) {
        return true;
    }
    let files = [
        state.home().map(|home| home.join(".ssh/authorized_keys")),
        state.folder().map(|folder| folder.join("authorized_keys")),
    ];
    files
        .into_iter()
        .filter_map(|path| fs::read_to_string(path.ok()?).ok())
        .any(|text| text.lines().any(matches))
}

/// The key of one line of an `authorized_keys` file; options in front of it are read over.
fn parse(line: &str) -> Option<PublicKey> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let starts = std::iter::once(0).chain(line.match_indices(' ').map(|(at, _)| at + 1));
    starts
        .filter(|&at| {
            ["ssh-", "ecdsa-", "sk-"]
                .iter()
                .any(|kind| line[at..].starts_with(kind))
        })
        .find_map(|at| PublicKey::from_openssh(&line[at..]).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, InstanceState) {
        let folder = tempfile::tempdir().unwrap();
        let state = InstanceState::at(folder.path().join("web-1"));
        (folder, state)
    }

    #[test]
    fn the_host_key_stays_the_same_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_folder, state) = state();
        let first = host_key(&state).unwrap();
        assert_eq!(host_key(&state).unwrap().public_key(), first.public_key());
        let folder = state.folder().unwrap();
        let mode = fs::metadata(folder.join(HOST_KEY))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let public = fs::read_to_string(folder.join("ssh_host_ed25519_key.pub")).unwrap();
        assert_eq!(
            PublicKey::from_openssh(&public).unwrap().key_data(),
            first.public_key().key_data()
        );
    }

    #[test]
    fn authorized_keys_are_read_in_both_places_with_options_and_comments() {
        let (_folder, state) = state();
        let key = host_key(&state).unwrap();
        let line = key.public_key().to_openssh().unwrap();
        let ssh = state.home().unwrap().join(".ssh");
        fs::create_dir_all(&ssh).unwrap();
        for path in [
            ssh.join("authorized_keys"),
            state.folder().unwrap().join("authorized_keys"),
        ] {
            assert!(!is_authorized(&state, "ec2-user", key.public_key()));
            let text = format!("# mine\nno-pty,command=\"echo ssh-x\" {line} me\n");
            fs::write(&path, text).unwrap();
            assert!(is_authorized(&state, "ec2-user", key.public_key()));
            fs::write(&path, "").unwrap();
        }
        assert!(!is_authorized(&state, "ec2-user", key.public_key()));
    }
}
