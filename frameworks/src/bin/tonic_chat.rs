//! A tonic server that answers with streams, to one message and to a stream of them; and its client.

use anyhow::Result;
use futures::stream::{self, BoxStream, StreamExt};
use hyper_util::rt::TokioIo;
use proto::chat_client::ChatClient;
use proto::chat_server::{Chat, ChatServer};
use proto::{Line, Number};
use std::path::Path;
use tonic::transport::{Endpoint, Server, Uri};
use tonic::{Request, Response, Status, Streaming};
use winpipe::ipc::tokio::{PeerInfo, bind, connect};
use winpipe_frameworks::{Side, side, until_input_ends};

mod proto {
    tonic::include_proto!("chat");
}

#[tokio::main]
async fn main() -> Result<()> {
    match side()? {
        Side::Server(path) => serve(&path).await,
        Side::Client(path) => chat(&path).await,
    }
}

async fn serve(path: &Path) -> Result<()> {
    let clients = bind(path)?.into_stream();
    let router = Server::builder().add_service(ChatServer::new(Shouter));
    Ok(router.serve_with_incoming_shutdown(clients, until_input_ends()).await?)
}

struct Shouter;

#[tonic::async_trait]
impl Chat for Shouter {
    type CountDownStream = BoxStream<'static, Result<Number, Status>>;

    async fn count_down(
        &self,
        request: Request<Number>,
    ) -> Result<Response<Self::CountDownStream>, Status> {
        let peer = PeerInfo::of(&request).and_then(|peer| peer.peer_cred);
        if peer.and_then(|peer| peer.pid()).is_none() {
            return Err(Status::unauthenticated("who are you?"));
        }
        let numbers = (0..=request.into_inner().value).rev().map(|value| Ok(Number { value }));
        Ok(Response::new(stream::iter(numbers).boxed()))
    }

    type ShoutStream = BoxStream<'static, Result<Line, Status>>;

    async fn shout(
        &self,
        request: Request<Streaming<Line>>,
    ) -> Result<Response<Self::ShoutStream>, Status> {
        let shout = |line: Result<Line, _>| Ok(Line { text: line?.text.to_uppercase() });
        Ok(Response::new(request.into_inner().map(shout).boxed()))
    }
}

async fn chat(path: &Path) -> Result<()> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { connect(path).await.map(TokioIo::new) }
    });
    // The connector knows where to go, so the address is never looked up.
    let channel = Endpoint::from_static("http://pipe").connect_with_connector(connector).await?;
    let mut client = ChatClient::new(channel);

    let mut numbers = client.count_down(Number { value: 3 }).await?.into_inner();
    while let Some(number) = numbers.message().await? {
        println!("{}", number.value);
    }

    // The next line is sent when the last one is answered.
    let (lines, next) = futures::channel::mpsc::channel(1);
    let mut answers = client.shout(next).await?.into_inner();
    for (mut lines, text) in [(lines.clone(), "hello"), (lines, "goodbye")] {
        lines.try_send(Line { text: text.into() })?;
        drop(lines);
        let answer = answers.message().await?;
        println!("{}", answer.map_or("the end".into(), |line| line.text));
    }
    Ok(())
}
