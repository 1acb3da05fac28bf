//! What runs, as rows: for tables, JSON and the answers of owners.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use ops_core::Context;
use ops_ui::{
    Format, Result,
    table::{self, Cell, Column},
};
use serde::{Deserialize, Serialize};

use crate::local::Bound;
use crate::meter;
use crate::tunnel::Tunnel;

/// One forward.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ForwardRow {
    /// Its name in the profile.
    pub(crate) name: Option<String>,
    pub(crate) target: String,
    pub(crate) instance: String,
    /// `address:port` or a path.
    pub(crate) local: String,
    /// 0 for a unix socket.
    pub(crate) local_port: u16,
    pub(crate) remote: String,
    /// A URL to show, from the profile.
    pub(crate) open: Option<String>,
    pub(crate) connections: usize,
    pub(crate) total_connections: u64,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    /// Per second.
    pub(crate) rate_up: u64,
    pub(crate) rate_down: u64,
    pub(crate) since: Timestamp,
    pub(crate) age_seconds: u64,
    pub(crate) state: String,
    pub(crate) sessions: usize,
    /// The process that holds it.
    pub(crate) process: u32,
}

impl ForwardRow {
    pub(crate) fn of(tunnel: &Tunnel) -> Self {
        let (rate_down, rate_up) = tunnel.rates();
        let counters = &tunnel.counters;
        Self {
            name: tunnel.name.clone(),
            target: tunnel.target.clone(),
            instance: tunnel.instance.clone(),
            local: tunnel.bound.to_string(),
            local_port: tunnel.bound.port(),
            remote: tunnel.remote.clone(),
            open: tunnel.open.clone(),
            connections: counters.open.load(Ordering::Relaxed),
            total_connections: counters.total.load(Ordering::Relaxed),
            bytes_up: counters.up.load(Ordering::Relaxed),
            bytes_down: counters.down.load(Ordering::Relaxed),
            rate_up,
            rate_down,
            since: tunnel.since,
            age_seconds: tunnel.started.elapsed().as_secs(),
            state: tunnel.state().as_str().to_owned(),
            sessions: tunnel.sessions(),
            process: std::process::id(),
        }
    }

    /// The name, else the local end.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.local)
    }

    /// `127.0.0.1:3307 → db:3306 through web-1`.
    pub(crate) fn ready_line(&self) -> String {
        let name = match &self.name {
            Some(name) => format!("{name}: "),
            None => String::new(),
        };
        let open = match &self.open {
            Some(url) => format!("  {url}"),
            None => String::new(),
        };
        format!(
            "{name}{} → {} through {}{open}",
            self.local, self.remote, self.instance
        )
    }
}

/// Whether a stop request for `name` means this forward.
pub(crate) fn is_meant(name: &str, tunnel: &Tunnel) -> bool {
    name == "all"
        || tunnel.name.as_deref() == Some(name)
        || tunnel.target == name
        || tunnel.bound.to_string() == name
        || matches!(tunnel.bound, Bound::Tcp(address) if address.port().to_string() == name)
        || std::process::id().to_string() == name
}

/// What listens, as one JSON document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusDocument<'a> {
    api_version: &'static str,
    kind: &'static str,
    forwards: &'a [ForwardRow],
}

impl<'a> StatusDocument<'a> {
    pub(crate) fn new(forwards: &'a [ForwardRow]) -> Self {
        Self {
            api_version: "ops/v1",
            kind: "ForwardList",
            forwards,
        }
    }
}

/// Writes rows in the format asked for.
pub(crate) fn write(cx: &Context, rows: &[ForwardRow]) -> Result<()> {
    let output = cx.output();
    match output.format() {
        Format::Json => output.json(&StatusDocument::new(rows)),
        Format::Yaml => output.yaml(&StatusDocument::new(rows)),
        Format::Name => rows.iter().try_for_each(|row| output.line(row.label())),
        _ => {
            let mut head = vec![
                "NAME",
                "TARGET",
                "LOCAL",
                "REMOTE",
                "CONNECTIONS",
                "BYTES",
                "RATE",
                "AGE",
                "STATE",
            ];
            let wide = output.format() == Format::Wide;
            if wide {
                head.extend(["SESSIONS", "PROCESS"]);
            }
            let cells = rows.iter().map(|row| {
                let mut cells = vec![
                    row.name.clone().unwrap_or_else(|| "-".to_owned()),
                    row.instance.clone(),
                    row.local.clone(),
                    row.remote.clone(),
                    row.connections.to_string(),
                    meter::bytes(row.bytes_up + row.bytes_down),
                    format!("{}/s", meter::bytes(row.rate_up + row.rate_down)),
                    meter::age(Duration::from_secs(row.age_seconds)),
                    row.state.clone(),
                ];
                if wide {
                    cells.extend([row.sessions.to_string(), row.process.to_string()]);
                }
                cells
            });
            table(cx, &head, &cells.collect::<Vec<_>>())
        }
    }
}

/// Aligned columns, cut where the terminal is too narrow.
pub(crate) fn table(cx: &Context, head: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let columns: Vec<Column> = head
        .iter()
        .map(|&title| match title {
            // What a tunnel has carried is the first to be left out; names and addresses stay.
            "BYTES" => Column::new(title, 1),
            "RATE" => Column::new(title, 2),
            "CONNECTIONS" => Column::new(title, 3),
            "AGE" => Column::new(title, 4),
            _ => Column::new(title, Column::KEPT).shrinking(),
        })
        .collect();
    let rows = rows
        .iter()
        .map(|row| row.iter().map(Cell::new).collect::<Vec<_>>());
    table::write(cx.output(), &columns, rows)
}
