//! `ops forward` against a direct connection, in one run.
//!
//! `cargo run --release -p ops-bench --bin bench-forward [-- TABLE…]` takes about four minutes and
//! prints ratios, then the targets and whether they were met. TABLE is `paced-0`, `unpaced-0`,
//! `paced-20` or `unpaced-20` (agents paced as real ones or not, on a path of so many milliseconds
//! each way), or `memory`, for these alone: each takes less than a minute. Results of some tables
//! are never recorded. The tunnel, the sandbox and this program are three processes; on two
//! processors they are in each other's way.

mod far;
mod measure;
mod reference;

use std::{io, process::ExitCode, time::Duration};

use ops_bench::{
    report::{self, Report},
    stage::{Owned, Stage, document},
    usage,
};

use far::Server;
use measure::{Rates, ping, throughput};

/// Of each measurement of a rate.
const WINDOW: Duration = Duration::from_secs(3);
/// Round trips of each measurement of a delay, unless the window ends before.
const PINGS: usize = 1000;
/// The tables that can be asked for by themselves.
const TABLES: [&str; 5] = ["paced-0", "unpaced-0", "paced-20", "unpaced-20", "memory"];
/// Connections of the measurement of memory.
const CROWD: usize = 100;
/// What `ops` may have resident under a crowd, in bytes.
const MEMORY_BYTES: u64 = 32 << 20;
/// Largest payload that `ops` sends, in bytes.
const PAYLOAD_BYTES: usize = 16 << 10;
/// Connections that start together where `ops` decides about the sessions.
const TOGETHER: usize = 4;

/// One way, in milliseconds, of the paths that are measured.
const DELAYS_MS: [u64; 2] = [0, 20];

/// Bytes resident.
struct Memory {
    peak: u64,
    /// The program itself and its libraries.
    files: u64,
}

/// One kind of far side.
#[derive(Clone, Copy)]
struct Setting {
    paced: bool,
    /// One way, in milliseconds.
    delay_ms: u64,
    /// `None`: as `ops` does by itself.
    sessions: Option<usize>,
}

impl Setting {
    fn name(self) -> String {
        format!(
            "{}, {} ms, {}",
            if self.paced { "paced" } else { "unpaced" },
            self.delay_ms,
            match self.sessions {
                None => format!("default options, {TOGETHER} together"),
                Some(1) => "1 session".to_owned(),
                Some(n) => format!("{n} sessions"),
            }
        )
    }
}

/// What one setting gave.
struct Outcome {
    setting: Setting,
    rates: Rates,
    alone: Pings,
    beside: Pings,
}

/// Median and 99th percentile.
#[derive(Clone, Copy)]
struct Pings {
    half: Duration,
    most: Duration,
}

impl Pings {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: usize| {
            let index = (times.len() * share / 100).min(times.len().saturating_sub(1));
            times.get(index).copied().unwrap_or_default()
        };
        Self {
            half: at(50),
            most: at(99),
        }
    }

    fn text(self) -> String {
        format!("{} / {}", millis(self.half), millis(self.most))
    }
}

/// What there could be at best, in bytes per second.
#[derive(Default)]
struct Bounds {
    /// Pauses of an agent, and nothing else.
    pauses: f64,
    /// An agent that does what it has to.
    agent: f64,
    /// A bare web socket, payloads of 1,024 bytes.
    small: f64,
    /// With payloads of [`PAYLOAD_BYTES`].
    web_socket: f64,
    /// With the digest of each payload too.
    digests: f64,
    /// The whole way of an upload.
    chain: f64,
}

impl Bounds {
    fn measure() -> io::Result<Self> {
        Ok(Self {
            pauses: reference::pauses(),
            agent: reference::paced_agent()?,
            small: reference::web_socket(1024, WINDOW, false)?,
            web_socket: reference::web_socket(PAYLOAD_BYTES, WINDOW, false)?,
            digests: reference::web_socket(PAYLOAD_BYTES, WINDOW, true)?,
            chain: reference::chain(PAYLOAD_BYTES, WINDOW)?,
        })
    }

    fn print(&self, report: &mut Report) {
        let lines = [
            (
                "a pause of 1 ms for each 1,024 bytes, as an agent makes it here",
                self.pauses,
            ),
            (
                "the same with a digest, a web socket and acknowledgements: what an agent can give",
                self.agent,
            ),
            (
                "a bare web socket over loopback, messages of 1,024 bytes",
                self.small,
            ),
            (
                "a bare web socket over loopback, messages of 16,384 bytes",
                self.web_socket,
            ),
            (
                "the same with the digest of each payload, which the protocol wants",
                self.digests,
            ),
            (
                "the whole way of an upload, bare: connection, digest, web socket, connection",
                self.chain,
            ),
        ];
        let rows: Vec<Vec<String>> = lines
            .into_iter()
            .map(|(what, rate)| vec![what.to_owned(), megabytes(rate)])
            .collect();
        report.table(&["what there could be at best", "MB/s"], &rows);
    }
}

fn main() -> ExitCode {
    ops_bench::stage::main(run)
}

fn run() -> io::Result<()> {
    let server = Server::start()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (chosen, _) = report::split_tables(&TABLES, &arguments)?;
    let is_chosen = |table: &str| chosen.is_empty() || chosen.contains(&table);
    let mut report = Report::of("bench-forward");
    let mut bounds = Bounds::default();
    if chosen != ["memory"] {
        bounds = Bounds::measure()?;
        bounds.print(&mut report);
        report.line(
            "paced runs keep to three StartSession calls a second; unpaced ones have no limit",
        );
    }

    let mut rows = Vec::new();
    let mut outcomes = Vec::new();
    for delay_ms in DELAYS_MS {
        let paces: Vec<bool> = [(true, "paced"), (false, "unpaced")]
            .into_iter()
            .filter(|(_, name)| is_chosen(&format!("{name}-{delay_ms}")))
            .map(|(paced, _)| paced)
            .collect();
        if paces.is_empty() {
            continue;
        }
        let direct = direct(&server, delay_ms)?;
        rows.push(direct_row(delay_ms, &direct));
        for paced in paces {
            let stage = stage(paced, delay_ms)?;
            for sessions in [Some(1), Some(4), None] {
                let setting = Setting {
                    paced,
                    delay_ms,
                    sessions,
                };
                eprintln!("measuring: {}", setting.name());
                let outcome = through(&stage, &server, setting)?;
                rows.push(row(&outcome, &direct));
                outcomes.push(outcome);
            }
        }
    }
    if !rows.is_empty() {
        report.table(
            &[
                "",
                "down MB/s",
                "of direct",
                "up MB/s",
                "of direct",
                "ping ms p50 / p99",
                "beside a download",
                "times idle",
                "CPU s/GB down",
                "up",
            ],
            &rows,
        );
    }
    let memory = if is_chosen("memory") {
        Some(crowd(&mut report, &server)?)
    } else {
        None
    };
    targets(&mut report, &outcomes, &bounds, memory);
    if chosen.is_empty() {
        report.finish()?;
    }
    Ok(())
}

fn stage(paced: bool, delay_ms: u64) -> io::Result<Stage> {
    let fault = format!("delay={delay_ms}ms");
    let pace = if paced { "real" } else { "none" };
    let mut options = vec!["--agent-pace", pace];
    if delay_ms > 0 {
        options.extend(["--fault", &fault]);
    }
    Stage::serve(&options)
}

/// `ops forward` to the server, and its local port.
fn forward(stage: &Stage, server: &Server, options: &[&str]) -> io::Result<(Owned, u16)> {
    let mut command = stage.ops();
    command
        .args(["forward", "web-1", "-q", "-o", "json", "--grace", "100ms"])
        .arg(format!("0:127.0.0.1:{}", server.port()))
        .args(options)
        .stdout(std::process::Stdio::piped());
    let mut tunnel = Owned(command.spawn()?);
    let ready = document(&mut tunnel.0)?;
    let port = ready["forwards"][0]["localPort"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| io::Error::other("no port in what ops said"))?;
    Ok((tunnel, port))
}

fn through(stage: &Stage, server: &Server, setting: Setting) -> io::Result<Outcome> {
    let sessions = setting.sessions.map(|count| count.to_string());
    let options: Vec<&str> = sessions
        .iter()
        .flat_map(|count| ["--sessions", count.as_str()])
        .collect();
    let (tunnel, port) = forward(stage, server, &options)?;
    let process = Some(tunnel.0.id());
    let connections = setting.sessions.unwrap_or(TOGETHER);
    // Where `ops` decides, they are the first connections of all: nothing is known of them, and one
    // session is there.
    let together = match setting.sessions {
        None => Some(throughput(server, port, connections, WINDOW, process)?),
        Some(_) => None,
    };
    // The first connection finds all sessions there.
    let alone = Pings::of(ping(port, PINGS, WINDOW)?);
    let rates = match together {
        Some(rates) => rates,
        None => throughput(server, port, connections, WINDOW, process)?,
    };
    let beside = {
        let _bulk = measure::Download::start(port)?;
        // Long enough for the rates by which a connection finds its session.
        std::thread::sleep(Duration::from_secs(1));
        Pings::of(ping(port, PINGS, WINDOW)?)
    };
    Ok(Outcome {
        setting,
        rates,
        alone,
        beside,
    })
}

/// The same without a tunnel; the delay is that of a relay in this process.
struct Direct {
    rates: Rates,
    alone: Pings,
}

fn direct(server: &Server, delay_ms: u64) -> io::Result<Direct> {
    eprintln!("measuring: direct, {delay_ms} ms");
    let port = match delay_ms {
        0 => server.port(),
        _ => far::delayed(server.port(), Duration::from_millis(delay_ms))?,
    };
    Ok(Direct {
        alone: Pings::of(ping(port, PINGS, WINDOW)?),
        rates: throughput(server, port, 1, WINDOW, None)?,
    })
}

/// Peak memory of `ops` with as many sessions as it likes, under a crowd that sends and receives
/// without end.
fn crowd(report: &mut Report, server: &Server) -> io::Result<Option<Memory>> {
    eprintln!("measuring: {CROWD} connections both ways");
    let stage = stage(false, 0)?;
    let (tunnel, port) = forward(&stage, server, &[])?;
    let moved = measure::crowd(port, CROWD, WINDOW)?;
    report.line(&format!(
        "{CROWD} connections at once: {} MB/s down, {} MB/s up",
        megabytes(moved.0),
        megabytes(moved.1)
    ));
    let process = tunnel.0.id();
    let (peak, files) = (
        usage::peak_memory_bytes(process),
        usage::file_memory_bytes(process),
    );
    Ok(peak.zip(files).map(|(peak, files)| Memory { peak, files }))
}

fn direct_row(delay_ms: u64, direct: &Direct) -> Vec<String> {
    vec![
        match delay_ms {
            0 => "direct".to_owned(),
            _ => format!("direct, relay of {delay_ms} ms"),
        },
        megabytes(direct.rates.down),
        String::new(),
        megabytes(direct.rates.up),
        String::new(),
        direct.alone.text(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
    ]
}

fn row(outcome: &Outcome, direct: &Direct) -> Vec<String> {
    let cpu = |seconds: Option<f64>| seconds.map_or_else(|| "?".to_owned(), |s| format!("{s:.2}"));
    let Outcome {
        rates,
        alone,
        beside,
        ..
    } = outcome;
    vec![
        outcome.setting.name(),
        megabytes(rates.down),
        percent(rates.down / direct.rates.down),
        megabytes(rates.up),
        percent(rates.up / direct.rates.up),
        alone.text(),
        beside.text(),
        format!("{:.1}", ratio(beside.half, alone.half)),
        cpu(rates.cpu_down),
        cpu(rates.cpu_up),
    ]
}

/// The targets, and whether they were met.
///
/// `memory` is `None` where nobody wanted to know, and holds `None` where the system does not tell.
fn targets(
    report: &mut Report,
    outcomes: &[Outcome],
    bounds: &Bounds,
    memory: Option<Option<Memory>>,
) {
    let find = |paced: bool, delay_ms: u64, sessions: Option<usize>| {
        outcomes.iter().find(|outcome| {
            let s = outcome.setting;
            (s.paced, s.delay_ms, s.sessions) == (paced, delay_ms, sessions)
        })
    };
    let mut rows = Vec::new();
    let mut target = |what: &str, wanted: String, got: String, met: bool| {
        let met = match (wanted.as_str(), met) {
            ("-", _) => "",
            (_, true) => "met",
            (_, false) => "MISSED",
        };
        rows.push(vec![what.to_owned(), wanted, got, met.to_owned()]);
    };
    if let (Some(one), Some(four)) = (find(true, 0, Some(1)), find(true, 0, Some(4))) {
        let share = one.rates.down / bounds.agent;
        target(
            "paced download of one session, of what its agent can give",
            "97 %".into(),
            percent(share),
            share >= 0.97,
        );
        target(
            "the same, of pauses of 1 ms for each 1,024 bytes and nothing else",
            "-".into(),
            percent(one.rates.down / bounds.pauses),
            true,
        );
        let times = four.rates.down / one.rates.down;
        target(
            "paced download of four sessions, times one",
            "3.8".into(),
            format!("{times:.2}"),
            times >= 3.8,
        );
        let times = ratio(four.beside.half, four.alone.half);
        target(
            "ping beside a paced download on four sessions, times idle",
            "2".into(),
            format!("{times:.2}"),
            times <= 2.0,
        );
        target(
            "the same on one session: behind one frame of the agent",
            "-".into(),
            format!("{} ms", millis(one.beside.half)),
            true,
        );
    }
    for delay_ms in DELAYS_MS {
        if let (Some(one), Some(own)) = (find(true, delay_ms, Some(1)), find(true, delay_ms, None))
        {
            let times = own.rates.down / one.rates.down;
            target(
                &format!(
                    "{TOGETHER} paced downloads that start together, default options, path of {} ms, times one session",
                    2 * delay_ms
                ),
                "3.5".into(),
                format!("{times:.2}"),
                times >= 3.5,
            );
        }
    }
    if let Some(one) = find(false, 0, Some(1)) {
        let share = one.rates.up / bounds.web_socket;
        target(
            &format!("upload, of a bare web socket with payloads of {PAYLOAD_BYTES} bytes"),
            "50 %".into(),
            percent(share),
            share >= 0.5,
        );
        target(
            "the same, of a web socket with digests",
            "-".into(),
            percent(one.rates.up / bounds.digests),
            true,
        );
        target(
            "the same, of the whole way of an upload, bare",
            "-".into(),
            percent(one.rates.up / bounds.chain),
            true,
        );
    }
    let limit = MEMORY_BYTES >> 20;
    match memory {
        // Not asked for.
        None => {}
        Some(Some(memory)) => {
            let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
            target(
                &format!("peak memory of ops with {CROWD} connections both ways"),
                format!("{limit} MiB"),
                mib(memory.peak),
                memory.peak < MEMORY_BYTES,
            );
            target(
                "of that the program's own file and libraries",
                "-".into(),
                mib(memory.files),
                true,
            );
        }
        Some(None) => target(
            "peak memory of ops",
            format!("{limit} MiB"),
            "?".into(),
            true,
        ),
    }
    report.table(&["target", "wanted", "measured", ""], &rows);
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64().max(1e-9)
}

fn megabytes(bytes_per_second: f64) -> String {
    let rate = bytes_per_second / 1e6;
    if rate < 10.0 {
        format!("{rate:.2}")
    } else {
        format!("{rate:.0}")
    }
}

fn percent(share: f64) -> String {
    if share < 0.1 {
        format!("{:.2} %", share * 100.0)
    } else {
        format!("{:.1} %", share * 100.0)
    }
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}
