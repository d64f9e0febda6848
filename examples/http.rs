//! HTTP/1.1 over a stream, parsed by `httparse`: one request for each connection.
//!
//! ```text
//! cargo run --example http demo serve        # in one terminal
//! cargo run --example http demo /hello       # in another
//! ```
//!
//! On Unix `curl --unix-socket PATH http://localhost/hello` gets the same.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;
use std::{env, thread};
use winpipe::ipc::{self, Stream};

/// The longest head of a request, and the longest answer.
const MOST: u64 = 64 * 1024;

fn main() -> io::Result<()> {
    let (name, what) = match (env::args().nth(1), env::args().nth(2)) {
        (Some(name), Some(what)) => (name, what),
        _ => return Err(io::Error::other("usage: http NAME (serve | PATH)")),
    };
    let path = ipc::path(&name)?;
    if what == "serve" {
        let listener = ipc::bind(&path)?;
        println!("listening on {}", path.display());
        for client in listener.incoming() {
            let client = client?;
            thread::spawn(move || {
                if let Err(error) = answer(&client) {
                    eprintln!("a client left early: {error}");
                }
            });
        }
        return Ok(());
    }
    let server = ipc::connect(&path)?;
    let request = format!("GET {what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    (&server).write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    (&server).take(MOST).read_to_end(&mut bytes)?;
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut answer = httparse::Response::new(&mut headers);
    let head = answer.parse(&bytes).map_err(io::Error::other)?;
    let httparse::Status::Complete(head) = head else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    print!("{} ", answer.code.unwrap_or_default());
    io::stdout().write_all(&bytes[head..])
}

/// Answers one request.
fn answer(mut client: &Stream) -> io::Result<()> {
    // A client that sends nothing doesn't keep its thread.
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    let (code, text) = loop {
        let count = client.read(&mut part)?;
        bytes.extend_from_slice(&part[..count]);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match (request.parse(&bytes), request.path) {
            (Ok(httparse::Status::Complete(_)), Some("/hello")) => break ("200 OK", "Hello!\n"),
            (Ok(httparse::Status::Complete(_)), _) => break ("404 Not Found", "Not here.\n"),
            (Ok(_), _) if count > 0 && bytes.len() as u64 <= MOST => {}
            _ => break ("400 Bad Request", "That's no request.\n"),
        }
    };
    let len = text.len();
    let head = format!("HTTP/1.1 {code}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
    client.write_all((head + text).as_bytes())?;
    client.shutdown(Shutdown::Write)
}
