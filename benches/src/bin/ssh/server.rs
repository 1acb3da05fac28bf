//! OpenSSH's own server on a loopback port: the one that both ways lead to.

use std::{
    fs, io,
    net::TcpListener,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

/// A server, and the key that opens it.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) key: PathBuf,
}

impl Server {
    /// Starts one `sshd -i` for each connection, for this user alone.
    ///
    /// # Errors
    /// OpenSSH's server or `ssh-keygen` is missing.
    pub(crate) fn start(folder: &Path) -> io::Result<Self> {
        let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .ok_or_else(|| io::Error::other("sshd is missing: install openssh-server"))?;
        // Where packages keep it; sshd insists on it as root.
        let _ = fs::create_dir_all("/run/sshd");
        let (host_key, key) = (folder.join("host_key"), folder.join("key"));
        for path in [&host_key, &key] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(path)
                .status()?;
            if !made.success() {
                return Err(io::Error::other("ssh-keygen failed"));
            }
        }
        let config = folder.join("sshd_config");
        let lines = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             PermitRootLogin prohibit-password\nPidFile none\nSubsystem sftp internal-sftp\nLogLevel ERROR\n",
            host_key.display(),
            key.with_extension("pub").display()
        );
        fs::write(&config, lines)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // What is set by a server that listens itself.
                let _ = stream.set_nodelay(true);
                let Ok(input) = stream.try_clone() else {
                    continue;
                };
                let child = Command::new(sshd)
                    .args(["-i", "-f"])
                    .arg(&config)
                    .stdin(OwnedFd::from(input))
                    .stdout(OwnedFd::from(stream))
                    .stderr(Stdio::null())
                    .spawn();
                if let Ok(mut child) = child {
                    thread::spawn(move || child.wait());
                }
            }
        });
        Ok(Self { port, key })
    }
}
