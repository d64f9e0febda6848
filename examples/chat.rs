//! A chat room: what one client says, all others read.
//!
//! ```text
//! cargo run --example chat lobby serve     # in one terminal
//! cargo run --example chat lobby Ada       # in others; type, and end with Ctrl-D
//!                                          # (on Windows with Ctrl-Z and Enter)
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, thread};
use winpipe::ipc::{self, Stream};

/// Everybody who is here.
#[derive(Default)]
struct Room(Mutex<Vec<Arc<Stream>>>);

fn main() -> io::Result<()> {
    match (env::args().nth(1), env::args().nth(2)) {
        (Some(room), Some(who)) if who == "serve" => serve(&ipc::path(&room)?),
        (Some(room), Some(name)) => join(&ipc::path(&room)?, &name),
        _ => Err(io::Error::other("usage: chat ROOM (serve | YOUR-NAME)")),
    }
}

fn serve(path: &Path) -> io::Result<()> {
    let listener = ipc::bind(path)?;
    println!("listening on {}", path.display());
    let room = Arc::new(Room::default());
    for client in listener.incoming() {
        let (client, room) = (Arc::new(client?), room.clone());
        // A client that doesn't read holds the others up no longer than this.
        client.set_write_timeout(Some(Duration::from_secs(1)))?;
        thread::spawn(move || room.entertain(&client));
    }
    Ok(())
}

impl Room {
    /// Passes on what the client says until it leaves. Its first line is its name.
    fn entertain(&self, client: &Arc<Stream>) {
        let mut lines = BufReader::new(&**client).lines().map_while(Result::ok);
        let Some(name) = lines.next() else { return };
        self.0.lock().unwrap().push(client.clone());
        self.tell(&format!("{name} has joined\n"), None);
        for line in lines {
            self.tell(&format!("{name}: {line}\n"), Some(client));
        }
        let is_other = |other: &Arc<Stream>| !Arc::ptr_eq(other, client);
        self.0.lock().unwrap().retain(is_other);
        self.tell(&format!("{name} has left\n"), None);
    }

    /// Writes to everybody but one. Whoever can't be written to must leave.
    fn tell(&self, text: &str, but: Option<&Arc<Stream>>) {
        self.0.lock().unwrap().retain(|client| {
            let is_told = but.is_some_and(|but| Arc::ptr_eq(client, but))
                || (&**client).write_all(text.as_bytes()).is_ok();
            // This ends its thread.
            let _ = is_told || client.shutdown(Shutdown::Both).is_ok();
            is_told
        });
    }
}

fn join(path: &Path, name: &str) -> io::Result<()> {
    let server = ipc::connect(path)?;
    thread::scope(|scope| {
        scope.spawn(|| io::copy(&mut &server, &mut io::stdout()));
        (&server).write_all(format!("{name}\n").as_bytes())?;
        io::copy(&mut io::stdin(), &mut &server)?;
        // The server sees that we leave, and closes the connection.
        server.shutdown(Shutdown::Write)
    })
}
