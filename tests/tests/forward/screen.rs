//! What is told on stderr.

use std::io::{Read as _, Write as _};

use ops_tests::terminal::Terminal;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    far::{connect, echo, echoes},
    tunnel::{Told, port_of, service, spec, wait_until},
};

#[test]
fn each_connection_is_a_line_for_those_who_want_to_know() {
    let service = service();
    let mut child = service
        .ops(&["forward", "web-1", "0:80", "-v"])
        .spawn()
        .expect("ops starts");
    let told = Told::by(&mut child);
    told.wait_for(" → 80 through web-1");
    let mut stream = connect(port_of(&told.so_far()));
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
    )
    .expect("it is sent");
    stream
        .read_to_string(&mut String::new())
        .expect("an answer");
    let peer = stream.local_addr().expect("an address");
    drop(stream);
    told.wait_for("closed by the destination\n");
    let of_it: Vec<String> = told
        .so_far()
        .lines()
        .filter(|line| line.contains(" → port 80 of web-1: "))
        .map(str::to_owned)
        .collect();
    let [line] = of_it.as_slice() else {
        panic!("one line for one connection: {of_it:?}");
    };
    assert!(line.starts_with(&format!("{peer} → ")), "{line}");
    assert!(line.contains(": 48 B up, "), "{line}");
    assert!(line.contains(" down in "), "{line}");
    let id = Pid::from_raw(i32::try_from(child.id()).expect("an id")).expect("an id");
    kill_process(id, Signal::INT).expect("it is running");
    assert_eq!(child.wait().expect("its end").code(), Some(130));
    // Results go to stdout, and this has none.
    let mut out = String::new();
    let mut stdout = child.stdout.take().expect("its stdout");
    stdout.read_to_string(&mut out).expect("its stdout");
    assert_eq!(out, "");
}

#[test]
fn a_terminal_has_a_status_line_below_what_is_told() {
    let (service, port) = (service(), echo());
    let mut terminal = Terminal::start(&service, &["forward", "web-1", &spec(port), "-v"]);
    terminal.wait_for("0 connections");
    let shown = String::from_utf8_lossy(&terminal.output()).into_owned();
    let mut stream = connect(port_of(&shown));
    echoes(&mut stream);
    let seen = terminal.wait_for("1 connection  ");
    drop(stream);
    terminal.wait_for_after(seen, "0 connections");
    terminal.send("\x03");
    assert_eq!(terminal.wait(), Some(130));
    let (columns, rows) = ops_tests::terminal::SIZE;
    let screen = || terminal.screen(columns, rows).screen().contents();
    wait_until("the line is taken away", || {
        !screen().contains("connections  ")
    });
    let screen = screen();
    assert!(screen.contains(": 4 B up, 4 B down in "), "{screen}");
}
