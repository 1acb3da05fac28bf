//! Requests that steer a served sandbox: one small HTTP exchange over loopback.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use ops_sandbox::Access;
use ops_ui::{Error, Result};
use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `method` `/_sandbox/PATH` and gives the JSON of the answer.
///
/// # Errors
/// Nobody answers, or the sandbox refuses and says why.
pub(crate) fn admin_request(
    access: &Access,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Value> {
    let failed = |why: String| {
        Error::target("the sandbox does not answer")
            .caused_by(why)
            .hint("see whether it runs: ops sandbox status")
    };
    let address = access.endpoint.trim_start_matches("http://");
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} /_sandbox/{path} HTTP/1.1\r\nhost: {address}\r\nx-sandbox-token: {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        access.admin_token,
        body.len()
    );
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error| failed(error.to_string()))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| failed("its answer is no HTTP".to_owned()))?;
    // Both forms of body begin with the JSON: a chunk's length stands on a line of its own.
    let json = body.find(['{', '[']).map_or("null", |start| &body[start..]);
    let value = serde_json::Deserializer::from_str(json)
        .into_iter::<Value>()
        .next()
        .and_then(Result::ok)
        .unwrap_or(Value::Null);
    if head.split(' ').nth(1) == Some("200") {
        return Ok(value);
    }
    let why = value
        .get("error")
        .and_then(Value::as_str)
        .unwrap_or(head.lines().next().unwrap_or_default());
    Err(Error::usage("the sandbox refuses the request").caused_by(why))
}
