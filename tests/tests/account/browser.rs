//! A browser as far as a login needs one: it follows where it is led, and shows nothing.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

/// What a page answers.
pub(crate) struct Page {
    pub(crate) status: u16,
    /// Where it leads on to.
    pub(crate) location: Option<String>,
    pub(crate) body: String,
}

/// Gets the page at `url`, which is one of this machine, without following it on.
pub(crate) fn get(url: &str) -> Page {
    let rest = url.strip_prefix("http://").expect(url);
    let (host, path) = rest
        .find('/')
        .map_or((rest, "/"), |at| (&rest[..at], &rest[at..]));
    let mut stream = TcpStream::connect(host).expect(url);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect(url);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect(url);
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
    };
    Page {
        status: head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect(head),
        location: header("location"),
        body: body.to_owned(),
    }
}
