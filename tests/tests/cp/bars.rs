//! What is drawn on a terminal meanwhile, and what stays of it.

use ops_tests::{service::Service, terminal::Terminal};

use super::*;

/// A slow upload on a terminal, as soon as its bars are there.
fn upload(service: &Service) -> (Terminal, usize) {
    let folder = service.home().join("bars");
    put(&folder, b"a-file", &noise(6_000_000), 0o644);
    let from = folder.join("a-file");
    let to = format!("web-1:{}", folder.join("there").display());
    let args = ["cp", "--limit-rate", "1MB", from.to_str().unwrap(), &to];
    let terminal = Terminal::start(service, &args);
    let at = terminal.wait_for("total");
    (terminal, at)
}

/// The rows of the screen that are not empty.
fn rows(terminal: &Terminal) -> Vec<String> {
    let parser = terminal.screen(80, 24);
    let rows = parser.screen().rows(0, 80);
    let rows = rows.map(|row| row.trim_end().to_owned());
    rows.filter(|row| !row.is_empty()).collect()
}

#[test]
fn what_is_told_during_a_copy_stands_above_its_bars() {
    let service = Service::start(env!("CARGO_BIN_EXE_ops-under-test"), "");
    let (mut terminal, at) = upload(&service);
    service.set_faults("cut-after=0,cuts=1");
    let at = terminal.wait_for_after(at, "nothing was lost");
    let at = terminal.wait_for_after(at, "total");
    terminal.wait_for_after(at, "left");
    let now = rows(&terminal);
    assert!(now[0].starts_with("web-1: connection lost ("), "{now:#?}");
    let bars = &now[now.len() - 2..];
    assert!(now[now.len() - 3].starts_with("web-1: resumed"), "{now:#?}");
    assert!(bars[0].contains("a-file"), "{now:#?}");
    assert!(bars[1].starts_with("total"), "{now:#?}");

    assert_eq!(terminal.wait(), Some(0));
    let last = rows(&terminal);
    assert!(last[last.len() - 1].starts_with("1 copied"), "{last:#?}");
    assert!(
        last[last.len() - 2].starts_with("web-1: resumed"),
        "{last:#?}"
    );
}

#[test]
fn an_interrupted_copy_leaves_no_bar_on_the_screen() {
    let service = Service::start(env!("CARGO_BIN_EXE_ops-under-test"), "");
    let (mut terminal, _) = upload(&service);
    terminal.send("\x03");
    assert_eq!(terminal.wait(), Some(130));
    let rows = rows(&terminal);
    let is_bar = |row: &String| row.contains("total") || row.contains('%');
    assert!(!rows.iter().any(is_bar), "{rows:#?}");
}
