//! A server and a client of hyper: one HTTP connection for each stream. `TokioIo` is all it takes.

use anyhow::Result;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use hyper_util::rt::TokioIo;
use std::path::Path;
use winpipe::ipc::tokio::{bind, connect};
use winpipe_frameworks::{Side, side, until_input_ends};

#[tokio::main]
async fn main() -> Result<()> {
    match side()? {
        Side::Server(path) => serve(&path).await,
        Side::Client(path) => ask(&path).await,
    }
}

async fn serve(path: &Path) -> Result<()> {
    let listener = bind(path)?;
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await?;
            let connection = server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(reverse));
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    eprintln!("a connection failed: {error}");
                }
            });
        }
    };
    tokio::select! {
        result = accepting => result,
        () = until_input_ends() => Ok(()),
    }
}

async fn reverse(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(body.iter().rev().copied().collect::<Bytes>().into()))
}

async fn ask(path: &Path) -> Result<()> {
    let stream = TokioIo::new(connect(path).await?);
    let (mut sender, connection) = client::conn::http1::handshake(stream).await?;
    tokio::spawn(connection);
    for text in ["epip", "tekcos"] {
        let request = Request::post("/").header("host", "pipe").body(Full::<Bytes>::from(text))?;
        sender.ready().await?;
        let answer = sender.send_request(request).await?.into_body().collect().await?;
        println!("{}", String::from_utf8_lossy(&answer.to_bytes()));
    }
    Ok(())
}
