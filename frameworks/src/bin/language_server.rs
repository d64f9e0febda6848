//! JSON-RPC as editors and language servers speak it, with async-lsp: the editor asks what stands at a
//! place, and the server asks the editor for a setting meanwhile.

use anyhow::Result;
use async_lsp::lsp_types::{
    ConfigurationItem, ConfigurationParams, Hover, HoverContents, HoverParams, InitializeParams,
    InitializeResult, InitializedParams, MarkedString, Position, TextDocumentIdentifier,
    TextDocumentPositionParams, WorkDoneProgressParams, notification, request,
};
use async_lsp::router::Router;
use async_lsp::{
    ClientSocket, LanguageClient, LanguageServer, MainLoop, ResponseError, ServerSocket,
};
use std::ops::ControlFlow;
use std::path::Path;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};
use winpipe::ipc::tokio::{bind, connect};
use winpipe_frameworks::{Side, side, until_input_ends};

#[tokio::main]
async fn main() -> Result<()> {
    match side()? {
        Side::Server(path) => serve(&path).await,
        Side::Client(path) => edit(&path).await,
    }
}

async fn serve(path: &Path) -> Result<()> {
    let listener = bind(path)?;
    let accepting = async {
        loop {
            let (reader, writer) = listener.accept().await?.0.into_split();
            let (editor, _) = MainLoop::new_server(language_server);
            tokio::spawn(editor.run_buffered(reader.compat(), writer.compat_write()));
        }
    };
    tokio::select! {
        result = accepting => result,
        () = until_input_ends() => Ok(()),
    }
}

fn language_server(editor: ClientSocket) -> Router<ClientSocket> {
    let mut router = Router::new(editor);
    router
        .request::<request::Initialize, _>(|_, _| async { Ok(InitializeResult::default()) })
        .notification::<notification::Initialized>(|_, _| ControlFlow::Continue(()))
        .request::<request::HoverRequest, _>(|editor, params| hover(editor.clone(), params))
        .request::<request::Shutdown, _>(|_, ()| async { Ok(()) })
        .notification::<notification::Exit>(|_, ()| ControlFlow::Break(Ok(())));
    router
}

async fn hover(
    mut editor: ClientSocket,
    asked: HoverParams,
) -> Result<Option<Hover>, ResponseError> {
    let item = ConfigurationItem { scope_uri: None, section: Some("greeting".into()) };
    let settings = editor.configuration(ConfigurationParams { items: vec![item] }).await;
    let greeting = settings.ok().and_then(|all| all.first()?.as_str().map(String::from));
    let line = asked.text_document_position_params.position.line;
    let text = format!("{} from line {line}", greeting.unwrap_or_default());
    Ok(Some(Hover { contents: HoverContents::Scalar(MarkedString::String(text)), range: None }))
}

async fn edit(path: &Path) -> Result<()> {
    let (reader, writer) = connect(path).await?.into_split();
    let (editor, mut server) = MainLoop::new_client(|_: ServerSocket| {
        let mut router = Router::new(());
        router.request::<request::WorkspaceConfiguration, _>(|(), _| async {
            Ok(vec!["greetings".into()])
        });
        router
    });
    let running = tokio::spawn(editor.run_buffered(reader.compat(), writer.compat_write()));

    server.initialize(InitializeParams::default()).await?;
    server.initialized(InitializedParams {})?;
    let text_document = TextDocumentIdentifier::new("file:///main.rs".parse()?);
    let position = TextDocumentPositionParams { text_document, position: Position::new(7, 0) };
    let work_done_progress_params = WorkDoneProgressParams::default();
    let text_document_position_params = position;
    let params = HoverParams { text_document_position_params, work_done_progress_params };
    match server.hover(params).await?.map(|hover| hover.contents) {
        Some(HoverContents::Scalar(MarkedString::String(text))) => println!("{text}"),
        other => println!("{other:?}"),
    }
    server.shutdown(()).await?;
    server.exit(())?;
    match running.await? {
        // The server ends the connection.
        Ok(()) | Err(async_lsp::Error::Eof) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
