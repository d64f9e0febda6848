//! An axum server for this user's programs, and hyper's client.

use anyhow::{Result, ensure};
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::path::Path;
use winpipe::ipc::tokio::{PeerInfo, bind, connect};
use winpipe_frameworks::{Side, side, until_input_ends};

#[tokio::main]
async fn main() -> Result<()> {
    match side()? {
        Side::Server(path) => serve(&path).await,
        Side::Client(path) => ask(&path).await,
    }
}

async fn serve(path: &Path) -> Result<()> {
    let routes = Router::new().route("/", get(hello)).route("/sum", post(sum));
    let service = routes.into_make_service_with_connect_info::<PeerInfo>();
    let server = axum::serve(bind(path)?, service);
    Ok(server.with_graceful_shutdown(until_input_ends()).await?)
}

async fn hello(ConnectInfo(peer): ConnectInfo<PeerInfo>) -> String {
    match peer.peer_cred {
        Some(cred) => format!("hello, process {}", cred.pid().unwrap_or(0)),
        None => "hello".to_owned(),
    }
}

async fn sum(Json(numbers): Json<Vec<u64>>) -> Json<u64> {
    Json(numbers.iter().sum())
}

async fn ask(path: &Path) -> Result<()> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(connect(path).await?)).await?;
    tokio::spawn(connection);

    let request = Request::get("/").header("host", "pipe").body(Full::default())?;
    let answer = sender.send_request(request).await?;
    let text = String::from_utf8(answer.into_body().collect().await?.to_bytes().into())?;
    ensure!(text == format!("hello, process {}", std::process::id()), "{text}");

    let request = Request::post("/sum").header("host", "pipe");
    let request = request.header("content-type", "application/json");
    sender.ready().await?;
    let answer = sender.send_request(request.body(Full::new(Bytes::from("[1, 2, 39]")))?).await?;
    let sum = answer.into_body().collect().await?.to_bytes();
    println!("the sum is {}", String::from_utf8_lossy(&sum));
    Ok(())
}
