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
    let is_bar = |row: &String| row.starts_with("total") || row.contains('%');
    assert!(!rows.iter().any(is_bar), "{rows:#?}");
}

#[test]
fn bars_show_one_rate_and_the_ends_of_long_names_and_no_keys() {
    let service = Service::start(env!("CARGO_BIN_EXE_ops-under-test"), "");
    let folder = service
        .home()
        .join("a-folder-with-a-name-that-no-terminal-has-room-for");
    for name in ["the-first-of-the-two.iso", "the-second-of-the-two.iso"] {
        put(&folder, name.as_bytes(), &noise(6_000_000), 0o644);
    }
    let to = format!("web-1:{}", service.home().join("there").display());
    let from = folder.to_str().unwrap();
    let args = [
        "cp",
        "-r",
        "--sessions",
        "2",
        "--limit-rate",
        "1MB",
        from,
        &to,
    ];
    let mut terminal = Terminal::start(&service, &args);
    let at = terminal.wait_for("two.iso");
    // What is typed meanwhile is for whoever reads next.
    terminal.send("typed meanwhile\r\x1b[A");
    let at = terminal.wait_for_after(at, "two.iso");
    terminal.wait_for_after(at, "left");
    let now = rows(&terminal);
    let bars: Vec<&String> = now.iter().filter(|row| row.contains('%')).collect();
    assert!(!bars.is_empty(), "{now:#?}");
    for bar in &bars {
        assert!(
            bar.starts_with('…') && bar.contains("-of-the-two.iso "),
            "{now:#?}"
        );
        assert!(!bar.contains("/s"), "{now:#?}");
        assert!(bar.ends_with("/5.72 MiB"), "{now:#?}");
    }
    let rates = now.iter().filter(|row| row.contains("/s"));
    assert_eq!(rates.count(), 1, "{now:#?}");
    assert!(!now.concat().contains("typed"), "{now:#?}");
    terminal.send("\x03");
    assert_eq!(terminal.wait(), Some(130));
    let last = rows(&terminal);
    assert!(!last.concat().contains("typed"), "{last:#?}");
}

#[test]
fn an_interrupted_copy_says_what_is_kept_and_a_command_that_goes_on() {
    let service = Service::start(env!("CARGO_BIN_EXE_ops-under-test"), "");
    let folder = service.home().join("bars");
    put(&folder, b"a file", &noise(6_000_000), 0o644);
    let (from, there) = (folder.join("a file"), folder.join("there"));
    let (from, to) = (from.to_str().unwrap(), format!("web-1:{}", there.display()));
    for (resume, words, next) in [
        // Nothing is kept that could be gone on with.
        (
            None,
            "with --resume it is kept",
            "copy it again, and keep parts from now on",
        ),
        (Some("--resume"), "without a gap is kept", "go on"),
    ] {
        let first = ["--region", "eu-west-1", "cp", "-p", "--limit-rate", "1MB"];
        let args: Vec<&str> = first.into_iter().chain(resume).chain([from, &to]).collect();
        let mut terminal = Terminal::start(&service, &args);
        let at = terminal.wait_for("total");
        // More than what is read before anything is sent.
        terminal.wait_for_after(at, "total 4.");
        terminal.send("\x03");
        assert_eq!(terminal.wait(), Some(130));
        let said = rows(&terminal)
            .join(" ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(said.contains("0 of 1 are in place"), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(said.contains(&format!("hint: {next}: ops ")), "{said}");
        // A command is written in one piece, which the terminal alone puts into several rows.
        let shown = terminal.screen(80, 24).screen().contents();
        let (_, command) = shown.split_once("    ops ").expect(&said);
        let expected =
            format!("--region eu-west-1 cp --resume --preserve --limit-rate 1000000 '{from}' {to}");
        assert_eq!(command.trim_end(), expected);
    }
    // As a shell reads it.
    let command = format!(
        "{} --region eu-west-1 cp --resume --preserve -v '{from}' {to}",
        service.program().display()
    );
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", &command])
        .env_clear()
        .envs(service.environment());
    let output = shell.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("going on from byte"), "{said}");
    assert!(fs::read(&there).unwrap() == noise(6_000_000));
}
