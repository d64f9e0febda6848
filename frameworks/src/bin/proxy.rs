//! A proxy between two paths, by `tokio::io::copy_bidirectional`: the end of either direction passes
//! through, and the other direction goes on.

use anyhow::Result;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use winpipe::ipc::tokio::{Stream, bind, connect};
use winpipe_frameworks::{Side, side, until_input_ends};

#[tokio::main]
async fn main() -> Result<()> {
    match side()? {
        Side::Server(path) => {
            let behind = behind(&path);
            tokio::select! {
                result = serve(&behind, shout) => result,
                result = serve(&path, |stream| pass_on(stream, behind.clone())) => result,
                () = until_input_ends() => Ok(()),
            }
        }
        Side::Client(path) => ask(&path).await,
    }
}

/// Where the server is that the proxy hides.
fn behind(path: &Path) -> PathBuf {
    let mut behind = path.as_os_str().to_owned();
    behind.push("-behind");
    behind.into()
}

/// Runs a task for each client.
async fn serve<F>(path: &Path, attend: impl Fn(Stream) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let listener = bind(path)?;
    loop {
        let task = attend(listener.accept().await?.0);
        tokio::spawn(async {
            if let Err(error) = task.await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
}

async fn pass_on(mut client: Stream, path: PathBuf) -> Result<()> {
    let mut server = connect(path).await?;
    let (asked, answered) = copy_bidirectional(&mut client, &mut server).await?;
    eprintln!("passed {asked} bytes on, and {answered} back");
    Ok(())
}

/// Answers in capitals, once it has read everything.
async fn shout(mut stream: Stream) -> Result<()> {
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    stream.write_all(text.to_uppercase().as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

async fn ask(path: &Path) -> Result<()> {
    let mut stream = connect(path).await?;
    stream.write_all(b"the answer comes after the end").await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{answer}");
    Ok(())
}
