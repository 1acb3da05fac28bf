//! What an endpoint that is no honest service may cost: memory and time are bounded, and the error
//! says why.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use ops_tests::lab::{Done, Lab};

/// An endpoint that answers every request in its own way. It lives as long as the test.
struct Hostile {
    address: String,
    /// Bytes of bodies that have been sent.
    sent: Arc<AtomicU64>,
    /// Requests so far.
    asked: Arc<AtomicU64>,
}

/// How a request is answered: the whole conversation after it, and whether the connection goes on.
type Answer = fn(&str, u64, &mut TcpStream, &AtomicU64) -> std::io::Result<()>;

impl Hostile {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (sent, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counts = (sent.clone(), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (sent, asked) = counts.clone();
                thread::spawn(move || {
                    let mut stream = stream;
                    while let Some(request) = read_request(&mut stream) {
                        let number = asked.fetch_add(1, Ordering::Relaxed);
                        if answer(&request, number, &mut stream, &sent).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            address,
            sent,
            asked,
        }
    }

    fn ops(&self, arguments: &[&str]) -> Done {
        Lab::new()
            .env("AWS_ENDPOINT_URL", &self.address)
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "eu-west-1")
            .ops(arguments)
            .output()
    }
}

/// Head and body of the next request.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        text.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&text).to_lowercase();
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|len| len.trim().parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; len];
    stream.read_exact(&mut body).ok()?;
    text.extend(body);
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn whole(stream: &mut TcpStream, kind: &str, body: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A page of DescribeInstances with this token, or none of DescribeInstanceInformation.
fn page(request: &str, token: &str, stream: &mut TcpStream) -> std::io::Result<()> {
    if request.contains("DescribeInstances&") || request.contains("Action=DescribeInstances") {
        let body = format!(
            "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId>\
             <reservationSet/><nextToken>{token}</nextToken></DescribeInstancesResponse>"
        );
        whole(stream, "text/xml", &body)
    } else {
        whole(
            stream,
            "application/x-amz-json-1.1",
            "{\"InstanceInformationList\": []}",
        )
    }
}

#[test]
fn an_answer_without_end_is_given_up_at_a_bound() {
    // 1.5 GB, announced by nothing.
    let hostile = Hostile::start(|_, _, stream, sent| {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ntransfer-encoding: chunked\r\n\r\n"
        )?;
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..1536 {
            write!(stream, "{:x}\r\n", piece.len())?;
            stream.write_all(&piece)?;
            stream.write_all(b"\r\n")?;
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        stream.write_all(b"0\r\n\r\n")
    });
    let done = hostile.ops(&["ls"]).exits(1);
    assert!(
        done.stderr
            .contains("longer than 64 MiB, which no honest one is"),
        "{done}"
    );
    // What lies in the sockets beyond the bound was sent too, and Systems Manager was asked beside
    // EC2.
    let sent = hostile.sent.load(Ordering::Relaxed);
    assert!(sent < 160 << 20, "{sent} bytes were taken");
}

#[test]
fn an_announced_length_beyond_the_bound_is_not_read() {
    let hostile = Hostile::start(|_, _, stream, _| {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: 1610612736\r\n\r\n"
        )?;
        // Nothing comes; whoever waits for it waits for ever.
        stream.read_exact(&mut [0; 1])
    });
    let done = hostile.ops(&["ls"]).exits(1);
    assert!(done.stderr.contains("longer than 64 MiB"), "{done}");
}

#[test]
fn a_byte_now_and_then_lasts_no_longer_than_the_time_limit() {
    let hostile = Hostile::start(|_, _, stream, _| {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: 1000000\r\n\r\n"
        )?;
        loop {
            stream.write_all(b" ")?;
            thread::sleep(Duration::from_millis(200));
        }
    });
    for verb in [&["ls"][..], &["shell", "web-1"], &["console", "web-1"]] {
        let words: Vec<&str> = verb.iter().copied().chain(["--timeout", "1s"]).collect();
        let done = hostile.ops(&words).exits(124);
        assert!(done.stderr.contains("--timeout was reached"), "{done}");
    }
}

#[test]
fn the_same_token_twice_ends_a_list() {
    let hostile = Hostile::start(|request, _, stream, _| page(request, "again", stream));
    let done = hostile.ops(&["ls"]).exits(1);
    assert!(done.stderr.contains("the same NextToken twice"), "{done}");
    assert!(hostile.asked.load(Ordering::Relaxed) < 10);
}

#[test]
fn pages_without_end_end_with_an_error() {
    let hostile =
        Hostile::start(|request, number, stream, _| page(request, &format!("t{number}"), stream));
    let done = hostile.ops(&["ls"]).exits(1);
    assert!(done.stderr.contains("more than 500 pages"), "{done}");
}

#[test]
fn a_list_whose_pages_are_slow_lasts_no_longer_than_the_time_limit() {
    let hostile = Hostile::start(|request, number, stream, _| {
        thread::sleep(Duration::from_millis(100));
        page(request, &format!("t{number}"), stream)
    });
    let done = hostile.ops(&["ls", "--timeout", "1s"]).exits(124);
    assert!(done.stderr.contains("--timeout was reached"), "{done}");
}

#[test]
fn agents_that_are_listed_without_end_do_not_hold_up_the_list() {
    let hostile = Hostile::start(|request, number, stream, _| {
        if request.contains("AmazonSSM") {
            let body = format!(
                "{{\"InstanceInformationList\": [], \"NextToken\": \"t{}\"}}",
                number % 7
            );
            return whole(stream, "application/x-amz-json-1.1", &body);
        }
        let body = "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId>\
             <reservationSet/></DescribeInstancesResponse>";
        whole(stream, "text/xml", body)
    });
    let done = hostile.ops(&["ls"]).exits(0);
    assert!(done.stderr.contains("the same NextToken twice"), "{done}");
}
