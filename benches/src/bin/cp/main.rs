//! `ops cp` against OpenSSH's scp through `ops ssh-proxy`, agents paced as real ones are.
//!
//! `cargo run --release -p ops-bench --bin bench-cp [-- [TABLE…] [MEGABYTES [FILES [LARGE]]]]`: a
//! file of noise and one of text, both ways, each in megabytes (64); small files of 4 KiB (10,000);
//! one large file in megabytes for the memory (1,024; 0 leaves it out). All of it takes a good
//! quarter of an hour, most of which the paced ways need at 0.9 MB/s; `-- 16` gives the same ratios
//! in a few minutes.
//!
//! At the end the same copies and the output of a shell, with and without encryption, with agents
//! that do not pace.
//!
//! TABLE is `noise`, `text`, `small`, `large` or `encryption`, for these alone: `-- encryption`
//! takes a minute. Results of some tables are never recorded.
//!
//! *official habit* is scp through the same proxy held to what today's official client does with
//! input: 1,024 bytes, then a millisecond. It is a setting of this benchmark, no program of AWS's.
//! Ratios are of rates, to scp through our proxy in the same run.

mod encryption;
#[path = "../ssh/server.rs"]
mod server;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use ops_bench::{
    report::{self, Report},
    stage::{self, Stage, WEB_1, write_fleet_of_one},
    usage,
};

use crate::server::Server;

/// First argument of the part of this program that stands before the proxy.
const HABIT: &str = "official-habit";
/// What the official client sends at once, in bytes, and its pause.
const HABIT_BYTES: usize = 1024;
const HABIT_PAUSE: Duration = Duration::from_millis(1);
const MEGABYTE: f64 = 1_000_000.0;
/// The tables that can be asked for by themselves.
const TABLES: [&str; 5] = ["noise", "text", "small", "large", "encryption"];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(HABIT) {
        return stage::end(habit(&args.collect::<Vec<_>>()));
    }
    stage::main(run)
}

/// Runs `command` with its input slowed down.
fn habit(command: &[String]) -> io::Result<()> {
    let [program, rest @ ..] = command else {
        return Err(io::Error::other("no command"));
    };
    let mut child = Command::new(program)
        .args(rest)
        .env("OPS_BENCH_IS_OPS", "1")
        .stdin(Stdio::piped())
        .spawn()?;
    let mut to = child
        .stdin
        .take()
        .ok_or_else(|| io::Error::other("no pipe"))?;
    std::thread::spawn(move || {
        let mut from = io::stdin().lock();
        let mut buffer = [0; HABIT_BYTES];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..len]).is_err() {
                return;
            }
            std::thread::sleep(HABIT_PAUSE);
        }
    });
    child.wait().map(drop)
}

struct Bench {
    stage: Stage,
    config: PathBuf,
    profiles: PathBuf,
    folder: PathBuf,
}

/// How long something took, and the most memory of `ops` meanwhile.
struct Taken {
    time: Duration,
    memory_bytes: Option<u64>,
}

fn run() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (chosen, numbers) = report::split_tables(&TABLES, &arguments)?;
    let is_chosen = |table| chosen.is_empty() || chosen.contains(&table);
    let mut numbers = numbers.iter().map(|text| {
        text.parse::<usize>()
            .map_err(|_| io::Error::other(format!("`{text}` is no number")))
    });
    let megabytes = numbers.next().transpose()?.unwrap_or(64);
    let files = numbers.next().transpose()?.unwrap_or(10_000);
    let large = numbers.next().transpose()?.unwrap_or(1024);
    let folder = tempfile::tempdir()?;
    let bench = Bench::new(folder.path())?;
    let mut report = Report::of("bench-cp");
    for (name, text) in [("noise", false), ("text", true)] {
        if is_chosen(name) {
            bench.compare(&mut report, name, text, megabytes)?;
        }
    }
    if is_chosen("small") {
        bench.small(&mut report, files)?;
    }
    if is_chosen("large") && large > 0 {
        bench.large(&mut report, large)?;
    }
    if is_chosen("encryption") {
        encryption::compare(&mut report, folder.path(), megabytes)?;
    }
    if chosen.is_empty() {
        report.finish()?;
    }
    Ok(())
}

impl Bench {
    fn new(folder: &Path) -> io::Result<Self> {
        let server = Server::start(folder)?;
        let fleet = write_fleet_of_one(folder, Some(server.port))?;
        let stage = Stage::serve(&["--agent-pace", "real", "--fleet", &fleet])?;
        let printed = stage.ops().arg("ssh-config").output()?;
        let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
        let proxy = printed
            .lines()
            .find_map(|line| line.trim().strip_prefix("ProxyCommand "))
            .ok_or_else(|| io::Error::other("ops ssh-config printed no ProxyCommand"))?;
        let program = std::env::current_exe()?;
        let slowed = format!(
            "Host official\n    HostName {WEB_1}\n    HostKeyAlias {WEB_1}\n    ProxyCommand env -u OPS_BENCH_IS_OPS {} {HABIT} {}\n",
            program.display(),
            proxy.trim_start_matches("exec "),
        );
        let key = server.key.display();
        let user = Command::new("id").arg("-un").output()?.stdout;
        let user = String::from_utf8_lossy(&user).trim().to_owned();
        let config = folder.join("config");
        fs::write(
            &config,
            format!(
                // First, since the sandbox's entries name the user of its images.
                "Host *\n    User {user}\n\n{slowed}\n{printed}\nHost *\n    IdentityFile {key}\n    IdentitiesOnly yes\n    StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null\n    LogLevel ERROR\n"
            ),
        )?;
        let profiles = folder.join("profiles");
        fs::create_dir(&profiles)?;
        fs::write(
            profiles.join("bench.yaml"),
            format!(
                "ssh: {{ user: {user}, identity_file: \"{key}\", auth: key, host_keys: \"off\" }}\n",
            ),
        )?;
        Ok(Self {
            stage,
            config,
            profiles,
            folder: folder.to_owned(),
        })
    }

    fn scp(&self, places: &[String]) -> io::Result<Taken> {
        let mut command = Command::new("scp");
        command
            .env_clear()
            .args(["-q", "-F"])
            .arg(&self.config)
            .args(places);
        for (name, value) in self.stage.ops().get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        finish(command.stdin(Stdio::null()))
    }

    fn cp(&self, options: &[&str], places: &[String]) -> io::Result<Taken> {
        let mut command = self.stage.ops();
        command
            .arg("--profiles-dir")
            .arg(&self.profiles)
            .args(["--profile", "bench", "cp", "-q"])
            .args(options)
            .args(places);
        finish(&mut command)
    }

    /// One table: every way there is, both ways.
    fn compare(
        &self,
        report: &mut Report,
        name: &str,
        text: bool,
        megabytes: usize,
    ) -> io::Result<()> {
        let file = self.folder.join(name);
        let far = self.folder.join("far");
        let back = self.folder.join("back");
        fs::write(&file, content(text, megabytes * 1_000_000))?;
        let ways: [(&str, Option<&[&str]>, &str); 6] = [
            ("scp, our proxy", None, "web-1"),
            ("scp, official habit", None, "official"),
            (
                "session, 1 session",
                Some(&["--via", "session", "--sessions", "1"]),
                "web-1",
            ),
            (
                "session, 4 sessions",
                Some(&["--via", "session", "--sessions", "4"]),
                "web-1",
            ),
            (
                "sftp, 1 session",
                Some(&["--via", "sftp", "--sessions", "1"]),
                "web-1",
            ),
            (
                "sftp, 4 sessions",
                Some(&["--via", "sftp", "--sessions", "4"]),
                "web-1",
            ),
        ];
        let mut rows = Vec::new();
        let mut of: Option<(f64, f64)> = None;
        for (way, options, target) in ways {
            let there = format!("{target}:{}", far.display());
            let move_ = |places: [String; 2]| match options {
                Some(options) => self.cp(options, &places),
                None => self.scp(&places),
            };
            let _ = fs::remove_file(&far);
            let up = move_([file.display().to_string(), there.clone()])?;
            same(&file, &far)?;
            let _ = fs::remove_file(&back);
            let down = move_([there, back.display().to_string()])?;
            same(&file, &back)?;
            let rate = |taken: &Taken| megabytes as f64 / taken.time.as_secs_f64();
            let (up_rate, down_rate) = (rate(&up), rate(&down));
            let (first_up, first_down) = *of.get_or_insert((up_rate, down_rate));
            let memory = up
                .memory_bytes
                .max(down.memory_bytes)
                .filter(|_| options.is_some());
            rows.push(vec![
                way.to_owned(),
                format!("{up_rate:.2}"),
                format!("{:.2}", up_rate / first_up),
                format!("{down_rate:.2}"),
                format!("{:.2}", down_rate / first_down),
                shown(memory),
            ]);
        }
        report.line(&format!(
            "{megabytes} MB of {name}, --agent-pace real, three StartSession calls a second"
        ));
        report.table(
            &["", "up MB/s", "to scp", "down MB/s", "to scp", "peak MB"],
            &rows,
        );
        Ok(())
    }

    fn small(&self, report: &mut Report, files: usize) -> io::Result<()> {
        let tree = self.folder.join("tree");
        let noise = content(false, 4096 * 64);
        for n in 0..files {
            let folder = tree.join(format!("{}", n % 100));
            fs::create_dir_all(&folder)?;
            let mut bytes = noise[n % 64 * 4096..][..4096].to_vec();
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            fs::write(folder.join(format!("file-{n}")), bytes)?;
        }
        let (there, back) = (self.folder.join("there"), self.folder.join("tree-back"));
        let place = format!("web-1:{}", there.display());
        let via = ["--via", "session", "-r"];
        let up = self.cp(&via, &[tree.display().to_string(), place.clone()])?;
        let down = self.cp(&via, &[place, back.display().to_string()])?;
        let rate = |taken: &Taken| files as f64 * 4096.0 / MEGABYTE / taken.time.as_secs_f64();
        report.line(&format!("{files} files of 4 KiB by session"));
        report.table(
            &["", "MB/s", "peak MB"],
            &[
                vec![
                    "up".to_owned(),
                    format!("{:.1}", rate(&up)),
                    shown(up.memory_bytes),
                ],
                vec![
                    "down".to_owned(),
                    format!("{:.1}", rate(&down)),
                    shown(down.memory_bytes),
                ],
            ],
        );
        Ok(())
    }

    fn large(&self, report: &mut Report, megabytes: usize) -> io::Result<()> {
        let file = self.folder.join("large");
        let part = content(false, 1_000_000);
        let mut writer = fs::File::create(&file)?;
        for n in 0..megabytes {
            writer.write_all(&n.to_le_bytes())?;
            writer.write_all(&part[8..])?;
        }
        let (far, back) = (self.folder.join("far"), self.folder.join("back"));
        let place = format!("web-1:{}", far.display());
        let via = ["--via", "session"];
        let up = self.cp(&via, &[file.display().to_string(), place.clone()])?;
        let down = self.cp(&via, &[place, back.display().to_string()])?;
        same(&file, &back)?;
        let rate = |taken: &Taken| format!("{:.1}", megabytes as f64 / taken.time.as_secs_f64());
        report.line(&format!("{megabytes} MB in one file by session"));
        report.table(
            &["", "MB/s", "peak MB"],
            &[
                vec!["up".to_owned(), rate(&up), shown(up.memory_bytes)],
                vec!["down".to_owned(), rate(&down), shown(down.memory_bytes)],
            ],
        );
        Ok(())
    }
}

fn shown(memory_bytes: Option<u64>) -> String {
    memory_bytes.map_or("-".to_owned(), |bytes| {
        format!("{:.1}", bytes as f64 / MEGABYTE)
    })
}

/// Runs it to its end.
fn finish(command: &mut Command) -> io::Result<Taken> {
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let mut memory_bytes = None;
    let status = loop {
        memory_bytes = usage::peak_memory_bytes(child.id()).or(memory_bytes);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if !status.success() {
        return Err(io::Error::other(format!("{command:?} failed: {status}")));
    }
    Ok(Taken {
        time: begin.elapsed(),
        memory_bytes,
    })
}

fn same(one: &Path, other: &Path) -> io::Result<()> {
    if fs::read(one)? == fs::read(other)? {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "{} is not what was sent",
            other.display()
        )))
    }
}

/// Noise that does not compress, or lines that do.
fn content(text: bool, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 64);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut line = 0_u64;
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if text {
            line += 1;
            let part = format!(
                "2026-01-02 host app[{}]: request {line} took {} ms\n",
                state % 90,
                state % 977
            );
            bytes.extend_from_slice(part.as_bytes());
        } else {
            bytes.extend_from_slice(&state.to_le_bytes());
        }
    }
    bytes.truncate(len);
    bytes
}
