//! A daemon and its command line. The same source runs on every platform.
//!
//! ```text
//! daemon NAME serve [--idle-ms N]    answers each line with the line in upper case
//! daemon NAME send TEXT…             prints the answers
//! daemon NAME status                 prints the daemon's process and user
//! daemon NAME stop                   returns when the name is free
//! daemon NAME auto TEXT              sends, or becomes the daemon if there is none
//! ```
//!
//! It exits with 2 if the command line is wrong, with 3 if another serves that name, and with 4 if
//! there is no daemon.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use winpipe::ipc::{self, ConnectOrBind, Listener, Stream};

/// How long a client may be silent, if nothing else is said.
const IDLE: Duration = Duration::from_millis(10_000);

/// The line that stops the daemon. No text has a NUL in it, as no argument can.
const STOP: &[u8] = b"\0stop";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match &args[..] {
        [name, "serve"] => serve(name, IDLE),
        [name, "serve", "--idle-ms", millis] => match millis.parse() {
            Ok(millis @ 1..) => serve(name, Duration::from_millis(millis)),
            _ => return usage(),
        },
        [_, "send" | "auto", texts @ ..] if texts.iter().any(|text| text.contains('\n')) => {
            return usage();
        }
        [name, "send", texts @ ..] if !texts.is_empty() => send(name, texts),
        [name, "auto", text] => auto(name, text),
        [name, "status"] => status(name),
        [name, "stop"] => stop(name),
        _ => return usage(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("daemon: {error}");
            match error.kind() {
                ErrorKind::AddrInUse => ExitCode::from(3),
                _ if ipc::is_not_running(&error) => ExitCode::from(4),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: daemon NAME serve [--idle-ms N] | send TEXT... | status | stop | auto TEXT");
    eprintln!("a TEXT is one line");
    ExitCode::from(2)
}

/// Prints a line. A daemon lives on when nobody reads its output any more.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn serve(name: &str, idle: Duration) -> io::Result<()> {
    let path = ipc::path(name)?;
    run(ipc::bind(&path)?, &path, idle)
}

/// Serves until somebody says stop. What the clients' threads do then ends with the process.
fn run(listener: Listener, path: &Path, idle: Duration) -> io::Result<()> {
    let stopper = listener.try_clone()?;
    ctrlc::set_handler(move || drop(stopper.shutdown())).map_err(io::Error::other)?;
    say(&format!("listening on {}", path.display()));
    for client in listener.incoming() {
        let (client, stopper) = match client.and_then(|c| Ok((c, listener.try_clone()?))) {
            Ok(both) => both,
            // Too many files are open, say. That passes.
            Err(error) => {
                say(&format!("can't accept: {error}"));
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        thread::spawn(move || match answer(&client, &stopper, idle) {
            Err(error) if ipc::is_timeout(&error) => say("a silent client was dropped"),
            Err(error) => say(&format!("a client left early: {error}")),
            Ok(()) => {}
        });
    }
    Ok(())
}

fn answer(client: &Stream, listener: &Listener, idle: Duration) -> io::Result<()> {
    say(&format!("client: {}", ipc::peer_cred(client)?));
    client.set_read_timeout(Some(idle))?;
    client.set_write_timeout(Some(idle))?;
    for line in BufReader::new(client).split(b'\n') {
        let line = line?;
        if line == STOP {
            listener.shutdown()?;
            // The other end waits for the end of this process.
            loop {
                thread::park();
            }
        }
        let line = String::from_utf8_lossy(&line).to_uppercase();
        (&*client).write_all(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}

fn send(name: &str, texts: &[&str]) -> io::Result<()> {
    ask(&ipc::connect(ipc::path(name)?)?, texts)
}

fn ask(server: &Stream, texts: &[&str]) -> io::Result<()> {
    server.set_read_timeout(Some(IDLE))?;
    server.set_write_timeout(Some(IDLE))?;
    let mut answers = BufReader::new(server);
    for text in texts {
        (&*server).write_all(format!("{text}\n").as_bytes())?;
        let mut answer = String::new();
        if answers.read_line(&mut answer)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        say(answer.trim_end_matches('\n'));
    }
    Ok(())
}

fn auto(name: &str, text: &str) -> io::Result<()> {
    let path = ipc::path(name)?;
    match ipc::connect_or_bind(&path)? {
        ConnectOrBind::Connected(server) => ask(&server, &[text]),
        ConnectOrBind::Bound(listener) => {
            say("became the daemon");
            run(listener, &path, IDLE)
        }
    }
}

fn status(name: &str) -> io::Result<()> {
    let server = ipc::connect(ipc::path(name)?).inspect_err(|error| {
        if ipc::is_not_running(error) {
            say("not running");
        }
    })?;
    say(&format!("running: {}", ipc::peer_cred(&server)?));
    Ok(())
}

fn stop(name: &str) -> io::Result<()> {
    let path = ipc::path(name)?;
    let mut server = ipc::connect(&path)?;
    server.write_all(&[STOP, b"\n"].concat())?;
    // It closes the connection when it ends, perhaps not in order.
    let _ = server.read(&mut [0]);
    while ipc::exists(&path)? {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
