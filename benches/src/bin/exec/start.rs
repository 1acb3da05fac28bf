//! The time of a whole `ops exec web-1 -- true`, against the sum of its round trips.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use ops_bench::{
    report::Report,
    stage::{Stage, write_fleet_of_one},
};

use crate::{server::Server, unpaced};

/// There and back, of each message and of each call.
const NEAR: Duration = Duration::from_millis(40);
/// A second path, to count round trips by what it adds.
const FAR: Duration = Duration::from_millis(80);
/// Of each of which the median counts.
const RUNS: usize = 9;
/// How many times the sum of its round trips it may take.
const TARGET_RATIO: f64 = 1.3;
/// How long it may take where there is no way between, in milliseconds.
const TARGET_MILLISECONDS: u32 = 120;

/// Calls that a command makes, each a round trip.
const CALLS: [&str; 4] = [
    "ec2:DescribeInstances",
    "ssm:StartSession",
    "ssm:ResumeSession",
    "ssm:TerminateSession",
];

pub(crate) fn measure(report: &mut Report) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path())?;
    let fleet = write_fleet_of_one(folder.path(), Some(server.port))?;
    let stage = Stage::serve(&[
        "--agent-pace",
        "real",
        "--fault",
        "tps=off",
        "--fleet",
        &fleet,
    ])?;
    let login = Login::new(folder.path(), &server)?;
    let exec = || {
        let mut command = unpaced(&stage);
        command.args(["exec", "web-1", "--", "true"]);
        command
    };
    let shell = || {
        let mut command = unpaced(&stage);
        command.arg("--profiles-dir").arg(&login.profiles);
        command.args(["--profile", "bench", "ssh", "web-1", "true"]);
        command
    };
    let bare = || {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(&login.config);
        command.args(["direct", "true"]).stdin(Stdio::null());
        command
    };
    // Each adds a host key, or makes a folder, the first time.
    for mut command in [exec(), shell(), bare()] {
        once(&mut command)?;
    }
    let mut rows = Vec::new();
    let mut exec_times = Vec::new();
    for (name, make) in [
        ("`ops exec web-1 -- true`", &exec as &dyn Fn() -> Command),
        ("`ops ssh web-1 true`", &shell),
    ] {
        let mut times = Vec::new();
        for path in [Duration::ZERO, NEAR, FAR] {
            delay(&stage, path)?;
            times.push(median(make)?);
        }
        delay(&stage, Duration::ZERO)?;
        let [none, near, far] = times[..] else {
            return Err(io::Error::other("three paths"));
        };
        let round_trips = (far.as_secs_f64() - near.as_secs_f64()) / (FAR - NEAR).as_secs_f64();
        let ratio = near.as_secs_f64() / (round_trips * NEAR.as_secs_f64());
        rows.push(vec![
            name.to_owned(),
            milliseconds(none),
            milliseconds(near),
            milliseconds(far),
            format!("{round_trips:.1}"),
            format!("{ratio:.2}"),
        ]);
        exec_times.push((none, ratio));
    }
    let direct = median(&bare)?;
    rows.push(vec![
        "`ssh`, no session between".to_owned(),
        milliseconds(direct),
        "-".to_owned(),
        "-".to_owned(),
        "-".to_owned(),
        "-".to_owned(),
    ]);
    report.line(&format!(
        "A whole command, milliseconds, medians of {RUNS}; with no path, with one of {} ms and one \
         of {} ms there and back for each message and each call. Round trips are what the longer \
         path adds, divided by how much longer it is; the ratio is the time over the path of {} ms \
         to the sum of these.",
        NEAR.as_millis(),
        FAR.as_millis(),
        NEAR.as_millis()
    ));
    let far = format!("{} ms", FAR.as_millis());
    let near = format!("{} ms", NEAR.as_millis());
    report.table(&["", "no path", &near, &far, "round trips", "ratio"], &rows);
    let (none, ratio) = exec_times[0];
    report.line(&format!(
        "target of `ops exec`: ratio {TARGET_RATIO} at most ({}), under {TARGET_MILLISECONDS} ms \
         with no path ({})",
        met(ratio <= TARGET_RATIO),
        met(none < Duration::from_millis(TARGET_MILLISECONDS.into()))
    ));
    Ok(())
}

pub(crate) fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

/// How both kinds of ssh log in.
struct Login {
    /// The configuration of a bare ssh, which knows the host `direct`.
    config: PathBuf,
    /// A folder with the profile `bench`.
    profiles: PathBuf,
}

impl Login {
    fn new(folder: &Path, server: &Server) -> io::Result<Self> {
        let user = Command::new("id").arg("-un").output()?.stdout;
        let user = String::from_utf8_lossy(&user).trim().to_owned();
        let key = server.key.display();
        let (config, profiles) = (folder.join("config"), folder.join("profiles"));
        fs::write(
            &config,
            format!(
                "Host direct\n    HostName 127.0.0.1\n    Port {}\n    User {user}\n    \
                 IdentityFile {key}\n    IdentitiesOnly yes\n    StrictHostKeyChecking no\n    \
                 UserKnownHostsFile /dev/null\n    LogLevel ERROR\n",
                server.port
            ),
        )?;
        fs::create_dir(&profiles)?;
        fs::write(
            profiles.join("bench.yaml"),
            format!(
                "ssh: {{ user: {user}, identity_file: \"{key}\", auth: key, host_keys: \"off\" }}\n"
            ),
        )?;
        Ok(Self { config, profiles })
    }
}

/// Puts a path of so long, there and back, between client and AWS.
fn delay(stage: &Stage, path: Duration) -> io::Result<()> {
    let mut faults = vec!["tps=off".to_owned()];
    if !path.is_zero() {
        faults.push(format!("delay={}ms", path.as_millis() / 2));
        faults.extend(
            CALLS
                .iter()
                .map(|call| format!("slow={call}/{}ms", path.as_millis())),
        );
    }
    let mut command = stage.ops();
    command.args(["sandbox", "fault", &faults.join(",")]);
    once(&mut command).map(drop)
}

fn median(make: &dyn Fn() -> Command) -> io::Result<Duration> {
    let mut times = (0..RUNS)
        .map(|_| once(&mut make()))
        .collect::<io::Result<Vec<_>>>()?;
    times.sort_unstable();
    Ok(times[RUNS / 2])
}

/// Without looking on: for so short a time that would count.
fn once(command: &mut Command) -> io::Result<Duration> {
    let begin = Instant::now();
    let output = command.output()?;
    let took = begin.elapsed();
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "{command:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(took)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1000.0)
}
