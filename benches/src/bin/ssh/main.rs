//! `ops ssh` and plain ssh through sessions, against the same client and server over a direct
//! loopback connection.
//!
//! `cargo run --release -p ops-bench --bin bench-ssh [-- MEGABYTES [RUNS]]`: the time until
//! `ssh NAME true` is done, in its parts, and what scp carries.

mod parts;
mod server;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use ops_bench::{
    report::Report,
    stage::{self, Owned, Stage, WEB_1, write_fleet_of_one},
};

use crate::{parts::Timeline, server::Server};

fn main() -> ExitCode {
    stage::main(run)
}

fn run() -> io::Result<()> {
    let mut number = stage::numbers();
    let (megabytes, runs) = (number(256)?, number(9)?.max(1));

    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path())?;
    let fleet = write_fleet_of_one(folder.path(), Some(server.port))?;
    let stage = Stage::serve(&["--fleet", &fleet])?;
    let bench = Bench::new(stage, &server, folder.path())?;
    let mut report = Report::of("bench-ssh");
    bench.first_byte(&mut report, runs)?;
    bench.scp(&mut report, megabytes, runs.min(5))?;
    report.finish()
}

struct Bench {
    stage: Stage,
    config: PathBuf,
    folder: PathBuf,
    /// `ops forward` to the same port, ended with the value.
    _forward: Owned,
}

impl Bench {
    fn new(stage: Stage, server: &Server, folder: &Path) -> io::Result<Self> {
        let printed = stage.ops().arg("ssh-config").output()?;
        if !printed.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&printed.stderr).into_owned(),
            ));
        }
        let mut forward = Owned(
            stage
                .ops()
                .args(["forward", "-q", "-o", "json", "web-1", "0:22"])
                .stdout(Stdio::piped())
                .spawn()?,
        );
        let document = stage::document(&mut forward.0)?;
        let forwarded = document["forwards"][0]["localPort"]
            .as_u64()
            .ok_or_else(|| io::Error::other("ops forward told no port"))?;
        let config = folder.join("config");
        let mut text = String::from_utf8_lossy(&printed.stdout).into_owned();
        let known = folder.join("known_hosts");
        for (name, port) in [("direct", u64::from(server.port)), ("forwarded", forwarded)] {
            text.push_str(&format!(
                "\nHost {name}\n    HostName 127.0.0.1\n    Port {port}\n    UserKnownHostsFile {}\n",
                known.display()
            ));
        }
        text.push_str(&format!(
            "\nHost *\n    IdentityFile {}\n    IdentitiesOnly yes\n    StrictHostKeyChecking accept-new\n",
            server.key.display()
        ));
        fs::write(&config, text)?;
        Ok(Self {
            stage,
            config,
            folder: folder.to_owned(),
            _forward: forward,
        })
    }

    /// A program in the environment of `ops`, which the ProxyCommand needs.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().arg("-F").arg(&self.config);
        for (name, value) in self.stage.ops().get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::null());
        command
    }

    fn first_byte(&self, report: &mut Report, runs: usize) -> io::Result<()> {
        type Make<'a> = Box<dyn Fn() -> Command + 'a>;
        let plain = |target: &'static str| {
            move || {
                let mut command = self.command("ssh");
                command.args(["-v", target, "true"]).env("OPS_VERBOSE", "2");
                command
            }
        };
        let ways: [(&str, Make<'_>); 4] = [
            ("direct", Box::new(plain("direct"))),
            ("ssh, by name", Box::new(plain("web-1"))),
            ("ssh, by id", Box::new(plain(WEB_1))),
            (
                "ops ssh",
                Box::new(|| {
                    let mut command = self.stage.ops();
                    command.args(["-vv", "ssh", "-v", "-F"]);
                    command.arg(&self.config).args(["web-1", "true"]);
                    command
                }),
            ),
        ];
        let mut rows = Vec::new();
        for (name, make) in &ways {
            // The first adds the host key.
            Timeline::measure(&mut make())?;
            let timelines = (0..runs)
                .map(|_| Timeline::measure(&mut make()))
                .collect::<io::Result<Vec<_>>>()?;
            let mut row = vec![(*name).to_owned()];
            row.extend(parts::medians(&timelines).into_iter().map(milliseconds));
            rows.push(row);
        }
        report.line(&format!(
            "`ssh NAME true`, milliseconds, medians of {runs}; where a part is missing the next one begins earlier"
        ));
        let mut head = vec![""];
        head.extend(parts::NAMES);
        head.push("total");
        report.table(&head, &rows);
        Ok(())
    }

    fn scp(&self, report: &mut Report, megabytes: usize, runs: usize) -> io::Result<()> {
        let (file, far, back) = (
            self.folder.join("file"),
            self.folder.join("far"),
            self.folder.join("back"),
        );
        fs::write(&file, vec![0x5a; megabytes << 20])?;
        let ways = [
            ("direct", "direct"),
            ("session", "web-1"),
            ("ops forward", "forwarded"),
        ];
        let mut times = vec![(Vec::new(), Vec::new()); ways.len()];
        // In turns, so that a busy moment meets all of them.
        for _ in 0..runs {
            for ((_, target), (up, down)) in ways.iter().zip(&mut times) {
                let far = format!("{target}:{}", far.display());
                up.push(self.copy(&[file.as_os_str(), far.as_ref()])?);
                down.push(self.copy(&[far.as_ref(), back.as_os_str()])?);
            }
        }
        let times: Vec<_> = times
            .into_iter()
            .map(|(up, down)| (parts::median(up), parts::median(down)))
            .collect();
        let direct = times[0];
        let rate = |time: Duration| format!("{:.0}", megabytes as f64 / time.as_secs_f64());
        let ratio =
            |time: Duration, of: Duration| format!("{:.2}", of.as_secs_f64() / time.as_secs_f64());
        let rows: Vec<Vec<String>> = ways
            .iter()
            .zip(times)
            .map(|((name, _), (up, down))| {
                vec![
                    (*name).to_owned(),
                    rate(up),
                    ratio(up, direct.0),
                    rate(down),
                    ratio(down, direct.1),
                ]
            })
            .collect();
        report.line(&format!(
            "scp of {megabytes} MiB, unpaced, MiB/s with its ratio to the direct connection, medians of {runs}"
        ));
        report.table(&["", "up", "ratio", "down", "ratio"], &rows);
        Ok(())
    }

    fn copy(&self, paths: &[&std::ffi::OsStr]) -> io::Result<Duration> {
        let begin = Instant::now();
        let status = self.command("scp").arg("-q").args(paths).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("scp ended with {status}")));
        }
        Ok(begin.elapsed())
    }
}

fn milliseconds(part: Option<Duration>) -> String {
    part.map_or("-".to_owned(), |part| {
        format!("{:.1}", part.as_secs_f64() * 1000.0)
    })
}
