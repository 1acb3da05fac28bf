//! What machines keep on this disk, and the SSH keys pushed to them.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::Instance;

/// How long a key pushed by EC2 Instance Connect is good.
const PUSHED_KEY_LIFETIME: Duration = Duration::from_secs(60);

/// The states of all machines that were ever asked for, by id.
#[derive(Debug)]
pub(crate) struct InstanceStates {
    folder: PathBuf,
    shell: Option<PathBuf>,
    states: Mutex<HashMap<String, Arc<InstanceState>>>,
}

impl InstanceStates {
    /// Machines get their folders below `folder`, and their users `shell`.
    pub(crate) fn new(folder: PathBuf, shell: Option<PathBuf>) -> Self {
        Self {
            folder,
            shell,
            states: Mutex::default(),
        }
    }

    pub(crate) fn of(&self, instance: &Instance) -> Arc<InstanceState> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(states.entry(instance.id.clone()).or_insert_with(|| {
            Arc::new(InstanceState {
                folder: self.folder.join(&instance.id),
                shell: self.shell.clone(),
                demo: DemoFiles::of(instance),
                pushed: Mutex::default(),
            })
        }))
    }
}

/// What a machine keeps on this disk, and the SSH keys pushed to it.
#[derive(Debug)]
pub(crate) struct InstanceState {
    folder: PathBuf,
    shell: Option<PathBuf>,
    demo: DemoFiles,
    pushed: Mutex<Vec<PushedKey>>,
}

#[derive(Debug)]
struct PushedKey {
    user: String,
    public_key: String,
    at: Instant,
}

#[derive(Debug)]
struct DemoFiles {
    name: String,
    id: String,
    is_web: bool,
}

impl InstanceState {
    /// A machine whose state is kept in `folder`, which need not exist yet.
    #[cfg(test)]
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self {
            folder,
            shell: None,
            demo: DemoFiles {
                name: "web-1".to_owned(),
                id: "i-0123456789abcdef0".to_owned(),
                is_web: true,
            },
            pushed: Mutex::default(),
        }
    }

    /// The file in which the agent keeps the output of a session, where it keeps any.
    ///
    /// # Errors
    /// As [`Self::folder`].
    pub(crate) fn kept_output(&self, session_id: &str) -> io::Result<PathBuf> {
        let sessions = self
            .folder()?
            .join("var/lib/amazon/ssm/session/orchestration");
        Ok(sessions.join(session_id).join("ipcTempFile.log"))
    }

    /// The machine's state folder (0700), made if it is missing: host keys and the like belong
    /// here, outside the home.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(crate) fn folder(&self) -> io::Result<&Path> {
        make_folder(&self.folder)?;
        Ok(&self.folder)
    }

    /// The shell of its users, where the sandbox was told one.
    pub(crate) fn shell(&self) -> Option<&Path> {
        self.shell.as_deref()
    }

    /// `HOME` of sessions on this machine, made with its demo files at the first call;
    /// `.ssh/authorized_keys` is read from here.
    ///
    /// # Errors
    /// A folder or file cannot be written.
    pub(crate) fn home(&self) -> io::Result<PathBuf> {
        let home = self.folder()?.join("home");
        if !home.is_dir() {
            // Written aside and renamed, so that two processes with one folder never see half a
            // home.
            let fresh = self.folder.join(format!(".home-{}", uuid::Uuid::new_v4()));
            make_folder(&fresh)?;
            self.demo.write(&fresh)?;
            if let Err(error) = fs::rename(&fresh, &home) {
                let _ = fs::remove_dir_all(&fresh);
                if !home.is_dir() {
                    return Err(error);
                }
            }
        }
        Ok(home)
    }

    /// Notes a key for `user`, as EC2 Instance Connect does.
    pub(crate) fn push_key(&self, user: &str, public_key: &str) {
        let mut pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        pushed.retain(|key| key.at.elapsed() < PUSHED_KEY_LIFETIME);
        pushed.push(PushedKey {
            user: user.to_owned(),
            public_key: public_key.to_owned(),
            at: Instant::now(),
        });
    }

    /// Public keys in OpenSSH form that EC2 Instance Connect pushed for `user` within the last 60
    /// seconds.
    pub(crate) fn pushed_keys(&self, user: &str) -> Vec<String> {
        self.pushed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|key| key.user == user && key.at.elapsed() < PUSHED_KEY_LIFETIME)
            .map(|key| key.public_key.clone())
            .collect()
    }
}

impl DemoFiles {
    fn of(instance: &Instance) -> Self {
        Self {
            name: instance.hostname().to_owned(),
            id: instance.id.clone(),
            is_web: instance.tags.get("Role").is_some_and(|role| role == "web"),
        }
    }

    fn write(&self, home: &Path) -> io::Result<()> {
        let name = &self.name;
        fs::write(
            home.join("README.txt"),
            format!(
                "This is {name} ({}), a machine of the ops sandbox.\nIt is a folder on your own computer: what runs here runs as you.\n",
                self.id
            ),
        )?;
        fs::write(home.join("motd"), format!("Welcome to {name}.\n"))?;
        make_folder(&home.join("logs"))?;
        let lines: String = (0..200)
            .map(|line| {
                let status = if line % 23 == 7 { 502 } else { 200 };
                format!(
                    "10.0.{}.{} - - \"GET /items/{} HTTP/1.1\" {status} {}\n",
                    line % 4,
                    line % 200 + 10,
                    line * 37 % 991,
                    line * 613 % 9973 + 120
                )
            })
            .collect();
        fs::write(home.join("logs/access.log"), lines)?;
        if self.is_web {
            make_folder(&home.join("app"))?;
            fs::write(
                home.join("app/config.toml"),
                format!("listen = \"0.0.0.0:80\"\nname = {name:?}\nworkers = 4\n"),
            )?;
        }
        Ok(())
    }
}

/// Makes a folder and those above it; what it makes is the user's alone.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;

    fn state(folder: &Path) -> Arc<InstanceState> {
        let fleet = Fleet::load(None, 0).unwrap();
        InstanceStates::new(folder.to_owned(), None).of(&fleet.listed_as("web-1").unwrap())
    }

    #[test]
    fn a_home_has_demo_files_and_keeps_what_is_changed_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = state(folder.path()).home().unwrap();
        assert!(
            fs::read_to_string(home.join("README.txt"))
                .unwrap()
                .contains("web-1")
        );
        fs::write(home.join("motd"), "mine").unwrap();
        let again = state(folder.path()).home().unwrap();
        assert_eq!(fs::read_to_string(again.join("motd")).unwrap(), "mine");
        let mode = fs::metadata(folder.path().join("i-0a1b2c3d4e5f60718"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_pushed_key_is_for_one_user_and_one_minute() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path());
        state.push_key("ec2-user", "ssh-ed25519 AAAA");
        assert_eq!(state.pushed_keys("ec2-user"), ["ssh-ed25519 AAAA"]);
        assert!(state.pushed_keys("root").is_empty());
        for key in state.pushed.lock().unwrap().iter_mut() {
            key.at -= PUSHED_KEY_LIFETIME;
        }
        assert!(state.pushed_keys("ec2-user").is_empty());
    }
}
