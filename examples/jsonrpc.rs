//! JSON-RPC in messages with a `Content-Length`, as language servers speak it.
//!
//! ```text
//! cargo run --example jsonrpc demo serve          # in one terminal
//! cargo run --example jsonrpc demo add 1 2 3      # in another: prints 6
//! ```

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::{env, thread};
use winpipe::ipc::{self, Stream};

/// No message is longer: a peer can't make us allocate what it likes.
const MOST: usize = 1 << 20;

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let usage = || io::Error::other("usage: jsonrpc NAME (serve | METHOD [NUMBER…])");
    let path = ipc::path(&args.next().ok_or_else(usage)?)?;
    let method = args.next().ok_or_else(usage)?;
    if method == "serve" {
        let listener = ipc::bind(&path)?;
        println!("listening on {}", path.display());
        for client in listener.incoming() {
            let client = client?;
            thread::spawn(move || {
                if let Err(error) = serve(&client) {
                    eprintln!("a client left early: {error}");
                }
            });
        }
        return Ok(());
    }
    let params: Vec<i64> = args.flat_map(|number| number.parse()).collect();
    let server = ipc::connect(&path)?;
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    write_message(&server, &request)?;
    let answer = read_message(&mut BufReader::new(&server))?.unwrap_or_default();
    println!("{}", answer.get("result").unwrap_or(&answer["error"]));
    Ok(())
}

/// Answers the requests of one client, in order.
fn serve(client: &Stream) -> io::Result<()> {
    let mut requests = BufReader::new(client);
    while let Some(request) = read_message(&mut requests)? {
        let mut answer = json!({ "jsonrpc": "2.0", "id": request["id"] });
        if request["method"] == "add" {
            let numbers = request["params"].as_array().into_iter().flatten();
            answer["result"] = numbers.filter_map(Value::as_i64).sum::<i64>().into();
        } else {
            answer["error"] = json!({ "code": -32601, "message": "no such method" });
        }
        write_message(client, &answer)?;
    }
    Ok(())
}

/// Returns the next message, or `None` at the end.
fn read_message(from: &mut impl BufRead) -> io::Result<Option<Value>> {
    let (mut line, mut len) = (String::new(), None);
    while line != "\r\n" {
        line.clear();
        if from.by_ref().take(256).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if let Some(value) = line.strip_prefix("Content-Length:") {
            len = value.trim().parse().ok().filter(|len| *len <= MOST);
        }
    }
    let mut body = vec![0; len.ok_or(io::ErrorKind::InvalidData)?];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

fn write_message(mut to: &Stream, message: &Value) -> io::Result<()> {
    let body = message.to_string();
    to.write_all(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}
