//! Completion of a name in bash, from the key to the candidates, in one run.
//!
//! `cargo run --release -p ops-bench --bin bench-completion` takes about a minute. Beside it, if
//! `OPS_BENCH_AWS` names an AWS CLI or `aws` is on PATH, a completion of the kind that teams write:
//! a function that reads a file of names, and fills it with `aws ec2 describe-instances` when it is
//! older than a minute. Both are measured inside of bash, as the function that readline calls; the
//! shell's own drawing is not.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use ops_bench::{
    report::Report,
    stage::{self, Stage},
};

/// Fleets, in instances.
const SIZES: [usize; 2] = [10, 50_000];
/// Keys for each figure.
const WARM: usize = 30;
const COLD: usize = 5;
/// What the keys are pressed behind, small fleet and large one: the beginning of names, and nothing
/// at all.
const TYPED: [[&str; 2]; 2] = [["web-", ""], ["web-00", ""]];
/// Targets.
const WARM_LIMIT: Duration = Duration::from_millis(20);
const LARGE_LIMIT: Duration = Duration::from_millis(60);
const COLD_LIMIT: Duration = Duration::from_millis(1500);
const COLD_EXTRA: Duration = Duration::from_millis(50);

/// What readline asks for: with a first Tab what all candidates have in common, with a second one a
/// list.
const KINDS: [(&str, &str); 2] = [("9", "first"), ("63", "second")];

/// Calls `$function` `$keys` times, each after `$before`, and prints microseconds and the number of
/// candidates.
const KEYS: &str = r#"
compopt() { :; }
for ((key = 0; key < keys; key++)); do
    eval "$before"
    COMP_LINE="ops shell $typed" COMP_POINT=${#COMP_LINE} COMP_TYPE=$kind COMP_WORDS=(ops shell "$typed") COMP_CWORD=2 COMPREPLY=()
    COMP_POINT=${#COMP_LINE}
    begin=${EPOCHREALTIME/[.,]/}
    $function ops "$typed" shell
    end=${EPOCHREALTIME/[.,]/}
    echo $((end - begin)) ${#COMPREPLY[@]}
done
"#;

/// What is written for the AWS CLI. `$aws`, `$cache` and `$words` come from outside.
const AWS: &str = r#"
_aws_names() {
    if [[ -z $(find "$cache" -mmin -1 2>/dev/null) ]]; then
        "$aws" ec2 describe-instances --filters Name=instance-state-name,Values=running \
            --query 'Reservations[].Instances[].Tags[?Key==`Name`]|[].Value' --output text | tr '\t' '\n' >"$cache"
    fi
    COMPREPLY=($(compgen -W "$(<"$cache")" -- "$2"))
}
"#;

fn main() -> ExitCode {
    stage::main(run)
}

fn run() -> io::Result<()> {
    let aws = aws();
    let mut rows = Vec::new();
    let mut targets = Vec::new();
    for (size, all_typed) in SIZES.into_iter().zip(TYPED) {
        let bench = Bench::new(size)?;
        let answer = median((0..COLD).map(|_| bench.list()).collect::<io::Result<_>>()?);
        rows.push(row(size, "the list alone", "", &[answer], None));
        for typed in all_typed {
            bench.refresh()?;
            for (kind, tab) in KINDS {
                let keys = bench.ops(typed, kind, WARM, ":")?;
                let limit = if size > 1000 { LARGE_LIMIT } else { WARM_LIMIT };
                targets.push((
                    format!(
                        "{size} instances, warm, `{typed}`, {tab} Tab: under {}",
                        shown(limit)
                    ),
                    keys.middle() <= limit,
                    shown(keys.middle()),
                ));
                let what = format!("ops, warm, {tab} Tab");
                rows.push(row(size, &what, typed, &keys.times, Some(keys.found)));
            }
        }
        let keys = bench.ops(all_typed[0], KINDS[0].0, COLD, "ops cache clear -q")?;
        let limit = COLD_LIMIT.min(answer + COLD_EXTRA);
        targets.push((
            format!(
                "{size} instances, cold: the list and {} more, {} at most",
                shown(COLD_EXTRA),
                shown(COLD_LIMIT)
            ),
            keys.middle() <= limit,
            shown(keys.middle()),
        ));
        rows.push(row(
            size,
            "ops, cold",
            all_typed[0],
            &keys.times,
            Some(keys.found),
        ));
        if let Some(aws) = &aws {
            let keys = bench.aws(aws, all_typed[0], 1, "rm -f \"$cache\"")?;
            rows.push(row(
                size,
                "AWS CLI, cold",
                all_typed[0],
                &keys.times,
                Some(keys.found),
            ));
            for typed in all_typed {
                let keys = bench.aws(aws, typed, WARM, "touch \"$cache\"")?;
                rows.push(row(
                    size,
                    "AWS CLI, warm file",
                    typed,
                    &keys.times,
                    Some(keys.found),
                ));
            }
        }
    }
    let mut report = Report::of("bench-completion");
    report.table(
        &[
            "what",
            "instances",
            "typed",
            "median",
            "worst",
            "candidates",
        ],
        &rows,
    );
    if aws.is_none() {
        report.line("AWS CLI: skipped; OPS_BENCH_AWS names none, and there is none on PATH");
    }
    let rows: Vec<Vec<String>> = targets
        .into_iter()
        .map(|(what, met, figure)| vec![what, figure, if met { "met" } else { "MISSED" }.into()])
        .collect();
    report.table(&["target", "measured", ""], &rows);
    report.finish()
}

/// A sandbox, a home, and a bash in it.
struct Bench {
    stage: Stage,
    bin: tempfile::TempDir,
}

struct Keys {
    times: Vec<Duration>,
    found: usize,
}

impl Keys {
    fn middle(&self) -> Duration {
        median(self.times.clone())
    }
}

impl Bench {
    fn new(size: usize) -> io::Result<Self> {
        let stage = Stage::serve(&["--fleet-size", &size.to_string()])?;
        let bin = tempfile::tempdir()?;
        symlink(std::env::current_exe()?, bin.path().join("ops"))?;
        Ok(Self { stage, bin })
    }

    /// How long the service takes to list everything, without any other work of ours than a
    /// process.
    fn list(&self) -> io::Result<Duration> {
        let begin = Instant::now();
        let mut command = self.stage.ops();
        command.args(["cache", "refresh", "-q"]);
        let status = command.status()?;
        status
            .success()
            .then(|| begin.elapsed())
            .ok_or_else(|| io::Error::other("ops cache refresh failed"))
    }

    fn refresh(&self) -> io::Result<()> {
        self.list().map(drop)
    }

    fn ops(&self, typed: &str, kind: &str, keys: usize, before: &str) -> io::Result<Keys> {
        let mut command = self.stage.ops();
        let script = command.args(["completion", "bash"]).output()?.stdout;
        let script = String::from_utf8_lossy(&script).into_owned();
        let kind = [("kind".to_owned(), kind.into())];
        self.keys(&script, "_ops", typed, keys, before, &kind)
    }

    fn aws(&self, aws: &OsString, typed: &str, keys: usize, before: &str) -> io::Result<Keys> {
        let environment = self
            .stage
            .ops()
            .args(["sandbox", "env", "-o", "json"])
            .output()?
            .stdout;
        let environment: serde_json::Value = serde_json::from_slice(&environment)?;
        let mut more: Vec<(String, OsString)> = environment
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.into())))
            .collect();
        more.push(("aws".to_owned(), aws.clone()));
        more.push(("cache".to_owned(), self.bin.path().join("names").into()));
        self.keys(AWS, "_aws_names", typed, keys, before, &more)
    }

    fn keys(
        &self,
        script: &str,
        function: &str,
        typed: &str,
        keys: usize,
        before: &str,
        more: &[(String, OsString)],
    ) -> io::Result<Keys> {
        let stage = self.stage.ops();
        let mut path = self.bin.path().as_os_str().to_owned();
        path.push(":/usr/bin:/bin");
        let output = Command::new("bash")
            .args(["--norc", "-c", &format!("{script}\n{KEYS}")])
            .env_clear()
            .envs(
                stage
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("PATH", path)
            .env("OPS_SANDBOX", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("function", function)
            .env("typed", typed)
            .env("keys", keys.to_string())
            .env("before", before)
            .envs(more.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        let mut times = Vec::new();
        let mut found = 0;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Some((time, count)) = line.split_once(' ') else {
                continue;
            };
            let (Ok(time), Ok(count)) = (time.parse(), count.parse()) else {
                continue;
            };
            times.push(Duration::from_micros(time));
            found = count;
        }
        if times.is_empty() {
            return Err(io::Error::other("bash has measured nothing"));
        }
        Ok(Keys { times, found })
    }
}

/// The AWS CLI that is asked for, or found.
fn aws() -> Option<OsString> {
    if let Some(named) = std::env::var_os("OPS_BENCH_AWS") {
        return Some(named);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("aws"))
        .find(|path: &PathBuf| fs::metadata(path).is_ok_and(|data| data.is_file()))
        .map(Into::into)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn row(
    size: usize,
    what: &str,
    typed: &str,
    times: &[Duration],
    found: Option<usize>,
) -> Vec<String> {
    vec![
        what.to_owned(),
        size.to_string(),
        format!("`{typed}`"),
        shown(median(times.to_vec())),
        shown(times.iter().max().copied().unwrap_or_default()),
        found.map(|found| found.to_string()).unwrap_or_default(),
    ]
}
