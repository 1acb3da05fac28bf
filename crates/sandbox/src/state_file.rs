//! How other processes of the same user find a running sandbox.

use std::{
    fs, io,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::fleet::make_folder;

/// The file of `ops sandbox serve` in a state folder.
const SERVED: &str = "sandbox.json";

/// What a process needs to know to use a sandbox: where it is and this run's keys. Kept in a file
/// of mode 0600.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// `http://127.0.0.1:PORT`, for all services.
    pub endpoint: String,
    /// The fleet's own region.
    pub region: String,
    /// Of the user `sandbox`.
    pub access_key_id: String,
    /// Of the user `sandbox`.
    pub secret_access_key: String,
    /// Header `x-sandbox-token` of requests below `/_sandbox/`.
    pub admin_token: String,
    /// The process it runs in.
    pub pid: u32,
    /// Sessions may be started as often as anybody likes: nothing has to be paced from the start.
    #[serde(default)]
    pub starts_freely: bool,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Access")
            .field("endpoint", &self.endpoint)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// Variables that would lead an AWS client elsewhere; to be unset beside [`Access::environment`].
pub const UNSET: [&str; 16] = [
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_ENDPOINT_URL_EC2",
    "AWS_ENDPOINT_URL_SSM",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT",
    "AWS_ENDPOINT_URL_KMS",
    "AWS_ENDPOINT_URL_IAM",
    "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
    "AWS_ENDPOINT_URL_RESOURCE_GROUPS",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
];

impl Access {
    /// The environment with which any AWS client uses this sandbox; holds the secret key.
    ///
    /// Where this process has a proxy for plain HTTP in its environment, the loopback address is
    /// taken out of it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut environment = self.own_environment();
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
            .into_iter()
            .any(is_set)
        {
            for name in ["no_proxy", "NO_PROXY"] {
                let mut list = std::env::var(name).unwrap_or_default();
                if !list.is_empty() {
                    list.push(',');
                }
                list.push_str("127.0.0.1");
                environment.push((name.to_owned(), list));
            }
        }
        environment
    }

    fn own_environment(&self) -> Vec<(String, String)> {
        let federation = self.federation_endpoint();
        let rate = self.starts_freely.then_some(("OPS_START_RATE", "0"));
        let usual = [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", &self.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_access_key),
            ("AWS_REGION", &self.region),
            ("AWS_DEFAULT_REGION", &self.region),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("OPS_FEDERATION_ENDPOINT", &federation),
        ];
        rate.into_iter()
            .chain(usual)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// In place of `https://signin.aws.amazon.com/federation`.
    pub(crate) fn federation_endpoint(&self) -> String {
        format!("{}/federation", self.endpoint)
    }

    /// Reads a state file.
    ///
    /// # Errors
    /// It cannot be read, is no state file, is another user's, or is open to other users.
    pub fn read(path: &Path) -> io::Result<Self> {
        use std::{io::Read as _, os::unix::fs::MetadataExt as _};
        // The open file is looked at, so that what is checked is what is read.
        let mut file = fs::File::open(path)?;
        let data = file.metadata()?;
        let mode = data.mode();
        if data.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(format!(
                "{} belongs to another user ({})",
                path.display(),
                data.uid()
            )));
        }
        if mode & 0o077 != 0 {
            return Err(io::Error::other(format!(
                "{} is open to other users (mode {:o})",
                path.display(),
                mode & 0o777
            )));
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }

    /// Something listens at the endpoint.
    pub fn is_alive(&self) -> bool {
        let Some(address) = self.address() else {
            return false;
        };
        std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(1)).is_ok()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.endpoint.strip_prefix("http://")?.parse().ok()
    }

    /// Writes the file whole, readable by this user only.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let draft = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4()));
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        let result = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&draft, path));
        if result.is_err() {
            let _ = fs::remove_file(&draft);
        }
        result
    }
}

/// Where `ops sandbox serve` keeps its state file.
pub fn served_file(state_dir: &Path) -> PathBuf {
    state_dir.join(SERVED)
}

/// The served sandbox of a state folder, if it runs.
pub fn discover(state_dir: &Path) -> Option<Access> {
    Access::read(&served_file(state_dir))
        .ok()
        .filter(Access::is_alive)
}
