//! A service of the machine that every user may ask, and only the service's own user may stop.
//!
//! ```text
//! cargo run --example service winpipe-clock serve     # on Unix as root, which owns /run
//! cargo run --example service winpipe-clock time      # any user, in another terminal
//! cargo run --example service winpipe-clock stop
//! ```

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, SystemTime};
use winpipe::ipc::{self, Access, ListenOptions, Listener, Stream};

fn main() -> io::Result<()> {
    let (name, word) = match (env::args().nth(1), env::args().nth(2)) {
        (Some(name), Some(word)) => (name, word),
        _ => {
            return Err(io::Error::other(
                "usage: service NAME (serve | time | stop)",
            ));
        }
    };
    // Every user finds it there. `ipc::path` is this user's place.
    let path = ipc::system_path(&name)?;
    if word == "serve" {
        let listener = ListenOptions::new().access(Access::Everyone).bind(&path)?;
        println!("listening on {}", path.display());
        for client in listener.incoming() {
            // Whatever a client does concerns nobody else.
            if let Err(error) = client.and_then(|client| answer(&client, &listener)) {
                eprintln!("a client left early: {error}");
            }
        }
        return Ok(());
    }
    // Only to a server of the system or of this user: anybody could have taken the name.
    let mut server = ipc::connect(path)?;
    server.write_all(format!("{word}\n").as_bytes())?;
    server.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    print!("{answer}");
    Ok(())
}

/// Answers one request. Who asks is known for certain, or isn't known.
fn answer(mut client: &Stream, listener: &Listener) -> io::Result<()> {
    // Every user can come, also one that says nothing, or doesn't listen.
    client.set_read_timeout(Some(Duration::from_secs(1)))?;
    client.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut word = String::new();
    BufReader::new(client.take(64)).read_line(&mut word)?;
    // After the first read: before, Windows may not know the client.
    let peer = ipc::peer_cred(client)?;
    let text = match word.trim_end() {
        "time" => match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(time) => format!("{} s, {peer}\n", time.as_secs()),
            Err(error) => format!("{error}\n"),
        },
        "stop" if peer.is_same_user() => {
            listener.shutdown()?;
            "stopped\n".into()
        }
        "stop" => "only the service's own user may stop it\n".into(),
        _ => "no such request\n".into(),
    };
    client.write_all(text.as_bytes())
}
