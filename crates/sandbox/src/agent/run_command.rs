//! Scripts of Run Command, as the agent's plugin `aws:runShellScript` runs them: with real
//! processes of this machine.
//!
//! Source: agent/plugins/runscript, agent/executers, agent/plugins/pluginutil and
//! agent/framework/runpluginutil of the public amazon-ssm-agent.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::{fs::OpenOptionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Child,
};
use tokio_util::sync::CancellationToken;

use super::environment::Environment;
use crate::fleet::{Instance, InstanceState, make_folder};

/// The status of a script that the agent has stopped: 128 and SIGKILL. A script that exits with it
/// by itself is taken for one that was stopped.
const STOPPED_CODE: i32 = 137;
/// A script with this status has the machine started anew, and is run once more then.
const REBOOT_CODE: i32 = 194;
/// A step with this status ends its document with success.
const EXIT_WITH_SUCCESS_CODE: i32 = 168;
/// A step with this status ends its document with failure.
const EXIT_WITH_FAILURE_CODE: i32 = 169;
/// Bytes of each stream that the agent reports.
pub(crate) const REPORTED_BYTES: usize = 24_000;

/// What is run, and how.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) command_id: String,
    /// The lines of the file.
    pub(crate) lines: Vec<String>,
    /// Where it is run; a path that is not absolute means the agent's own folder.
    pub(crate) working_directory: String,
    pub(crate) execution_timeout: Duration,
    pub(crate) language: Language,
}

/// Which plugin of the agent runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// `aws:runShellScript`.
    Shell,
    /// `aws:runPowerShellScript`, where this machine has a `pwsh`.
    PowerShell,
}

/// What the agent makes of the status of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Success,
    Failed,
    TimedOut,
    Cancelled,
    /// The machine has to be started anew; the script is run again afterwards.
    Reboot,
}

/// A script that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) verdict: Verdict,
    /// As the agent reports it: -1 where a signal ended the script.
    pub(crate) code: i32,
    pub(crate) stdout: Stream,
    pub(crate) stderr: Stream,
}

/// What a script wrote to one stream.
#[derive(Debug)]
pub(crate) struct Stream {
    /// All of it.
    file: File,
    /// What the agent adds in its report and in no file.
    addition: &'static str,
    is_emptied: bool,
}

impl Stream {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            addition: "",
            is_emptied: false,
        })
    }

    /// The beginning, as the agent reports it: bytes that are no UTF-8 are replaced, since a report
    /// is JSON; and whether all of it is there.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn report(&mut self) -> io::Result<String> {
        const SUFFIX: &str = "--output truncated--";
        if self.is_emptied {
            return Ok(String::new());
        }
        let mut head = Vec::new();
        self.file.rewind()?;
        // One byte more tells whether anything is left out.
        let limit = REPORTED_BYTES as u64 + 1;
        (&mut self.file).take(limit).read_to_end(&mut head)?;
        head.extend_from_slice(self.addition.as_bytes());
        if head.len() > REPORTED_BYTES {
            head.truncate(REPORTED_BYTES - SUFFIX.len());
            head.extend_from_slice(SUFFIX.as_bytes());
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    /// Copies all of it to `path`; tells whether there was anything.
    ///
    /// # Errors
    /// It cannot be copied.
    pub(crate) fn copy_to(&mut self, path: &Path) -> io::Result<bool> {
        if self.file.metadata()?.len() == 0 {
            return Ok(false);
        }
        self.file.rewind()?;
        io::copy(&mut self.file, &mut File::create(path)?)?;
        Ok(true)
    }

    /// All of it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Runs `script` on `instance` to its end; `cancel` stops it.
///
/// # Errors
/// A file cannot be written here.
pub(crate) async fn run(
    script: &Script,
    instance: &Instance,
    state: &InstanceState,
    cancel: &CancellationToken,
) -> io::Result<Ran> {
    let (mut stdout, mut stderr) = (Stream::new()?, Stream::new()?);
    let folder = OrchestrationFolder::make(state, &script.command_id)?;
    let path = folder.write(script)?;
    let environment = Environment::new(instance, state)?;
    let (code, verdict, why) = match start(script, instance, &environment, &path) {
        Ok(child) => conclude(child, script, cancel, &mut stdout, &mut stderr).await?,
        Err(why) => (1, Verdict::Failed, Some(why)),
    };
    // The agent writes why a script failed behind what the script wrote, without a line feed
    // between them.
    if verdict == Verdict::Failed
        && let Some(why) = why
    {
        write!(stderr.file, "failed to run commands: {why}")?;
    }
    let mut ran = Ran {
        verdict,
        code,
        stdout,
        stderr,
    };
    ran.mind_the_document_codes();
    Ok(ran)
}

impl Ran {
    /// Two statuses speak to the document in place of the script's reader.
    fn mind_the_document_codes(&mut self) {
        match self.code {
            EXIT_WITH_SUCCESS_CODE => {
                self.verdict = Verdict::Success;
                self.stdout.addition = "\nStep exited with code 168. Therefore, marking step as succeeded. Further document steps will be skipped.";
                self.stderr.is_emptied = true;
            }
            EXIT_WITH_FAILURE_CODE => {
                let addition = "\nStep exited with code 169. Therefore, marking step as Failed. Further document steps will be skipped.";
                self.stdout.addition = addition;
                self.stderr.addition = addition;
            }
            _ => {}
        }
    }
}

/// The folder of one command on one machine, removed with the value. The official agent keeps its
/// own for months; here they would only fill a disk.
struct OrchestrationFolder(PathBuf);

impl OrchestrationFolder {
    fn make(state: &InstanceState, command_id: &str) -> io::Result<Self> {
        let path = state.folder()?.join("orchestration").join(command_id);
        make_folder(&path)?;
        Ok(Self(path))
    }

    fn write(&self, script: &Script) -> io::Result<PathBuf> {
        let path = self.0.join(match script.language {
            Language::Shell => "_script.sh",
            Language::PowerShell => "_script.ps1",
        });
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o700)
            .open(&path)?;
        file.write_all((script.lines.join("\n") + "\n").as_bytes())?;
        Ok(path)
    }
}

impl Drop for OrchestrationFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts the script; the words of the system where that cannot be done.
fn start(
    script: &Script,
    instance: &Instance,
    environment: &Environment,
    path: &Path,
) -> Result<Child, String> {
    let mut command = match script.language {
        // The shell runs the file by its `#!` line, or by itself where there is none.
        Language::Shell => {
            let mut command = environment.command("sh");
            command.arg("-c").arg(path);
            command
        }
        Language::PowerShell => {
            let mut command = environment.command("pwsh");
            command
                .args(["-NoProfile", "-NonInteractive", "-File"])
                .arg(path);
            command
        }
    };
    let folder = Path::new(&script.working_directory);
    if folder.is_absolute() {
        if !folder.is_dir() {
            return Err(format!(
                "chdir {}: no such file or directory",
                script.working_directory
            ));
        }
        command.current_dir(folder);
    }
    command
        .env_remove("TERM")
        .env("SSM_COMMAND_ID", &script.command_id)
        .env("AWS_SSM_INSTANCE_ID", &instance.id)
        .env("AWS_SSM_REGION_NAME", &instance.region)
        .env("AWS_SSM_PLATFORM_NAME", "Amazon Linux")
        .env("AWS_SSM_PLATFORM_VERSION", "2023")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                "exec: \"powershell\": executable file not found in $PATH".to_owned()
            }
            _ => error.to_string(),
        })
}

/// Waits for the script, and for whoever else holds its output, as the agent does; kills its whole
/// process group when the time is over or it is cancelled.
async fn conclude(
    mut child: Child,
    script: &Script,
    cancel: &CancellationToken,
    stdout: &mut Stream,
    stderr: &mut Stream,
) -> io::Result<(i32, Verdict, Option<String>)> {
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = async {
        let (out, err) = tokio::join!(keep(out, &mut stdout.file), keep(err, &mut stderr.file));
        out.and(err)?;
        child.wait().await
    };
    let stopped = |verdict| {
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        Ok((STOPPED_CODE, verdict, None))
    };
    tokio::select! {
        status = ended => Ok(judge(status?)),
        () = cancel.cancelled() => stopped(Verdict::Cancelled),
        () = tokio::time::sleep(script.execution_timeout) => stopped(Verdict::TimedOut),
    }
}

/// Writes what comes from `stream` to `file`, piece by piece, so that what has come is there when
/// the rest is not waited for.
async fn keep(stream: Option<impl AsyncRead + Unpin>, file: &mut File) -> io::Result<()> {
    let Some(mut stream) = stream else {
        return Ok(());
    };
    let mut piece = vec![0; 64 << 10];
    loop {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            len => file.write_all(&piece[..len])?,
        }
    }
}

/// What the agent reports of an exit.
fn judge(status: ExitStatus) -> (i32, Verdict, Option<String>) {
    let code = status.code().unwrap_or(-1);
    let verdict = match code {
        0 => Verdict::Success,
        STOPPED_CODE => Verdict::TimedOut,
        REBOOT_CODE => Verdict::Reboot,
        _ => Verdict::Failed,
    };
    let why = match status.signal() {
        // Go's names of signals; the usual ones.
        Some(9) => "signal: killed".to_owned(),
        Some(15) => "signal: terminated".to_owned(),
        Some(number) => format!("signal: signal {number}"),
        None => format!("exit status {code}"),
    };
    (code, verdict, Some(why))
}
