//! Lines, by a codec of tokio-util: every client hears what any of them says.

use anyhow::{Context, Result};
use futures::{SinkExt, StreamExt};
use std::path::Path;
use tokio::sync::broadcast;
use tokio_util::codec::{Framed, LinesCodec};
use winpipe::ipc::tokio::{Stream, bind, connect};
use winpipe_frameworks::{Side, side, until_input_ends};

#[tokio::main]
async fn main() -> Result<()> {
    match side()? {
        Side::Server(path) => serve(&path).await,
        Side::Client(path) => talk(&path).await,
    }
}

async fn serve(path: &Path) -> Result<()> {
    let listener = bind(path)?;
    let (said, _) = broadcast::channel(16);
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await?;
            let client = attend(stream, said.clone());
            tokio::spawn(async {
                if let Err(error) = client.await {
                    eprintln!("a client is gone: {error}");
                }
            });
        }
    };
    tokio::select! {
        result = accepting => result,
        () = until_input_ends() => Ok(()),
    }
}

async fn attend(stream: Stream, said: broadcast::Sender<String>) -> Result<()> {
    let mut hears = said.subscribe();
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(1024));
    lines.send("welcome").await?;
    loop {
        tokio::select! {
            line = lines.next() => match line {
                Some(line) => drop(said.send(line?)?),
                None => return Ok(()),
            },
            line = hears.recv() => lines.send(line?).await?,
        }
    }
}

async fn talk(path: &Path) -> Result<()> {
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut lines = Framed::new(connect(path).await?, LinesCodec::new());
        println!("{}", lines.next().await.context("no welcome")??);
        clients.push(lines);
    }
    clients[0].send("is anybody there?").await?;
    for lines in &mut clients {
        println!("{}", lines.next().await.context("no answer")??);
    }
    Ok(())
}
