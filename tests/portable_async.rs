//! The async facade, `winpipe::ipc::tokio`: the same source on every platform, with the same outcome.

mod common;

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::pin::pin;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::{LIMIT, within};
#[cfg(unix)]
use tokio::net::UnixListener as Inner;
#[cfg(windows)]
use winpipe::tokio::WinListener as Inner;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use winpipe::ipc::tokio::{
    ConnectOrBind, Listener, Stream, bind, bind_with, connect, connect_or_bind,
    connect_or_bind_with, connect_timeout, peer_cred,
};
use winpipe::ipc::{self, ListenOptions};

/// A safe path that nobody else uses.
fn safe_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    ipc::path(&format!("winpipe-async-{}-{number}", process::id())).unwrap()
}

/// Runs a test in a runtime of each kind.
fn in_runtimes<F: Future<Output = ()> + Send + 'static>(test: fn() -> F) {
    within(LIMIT, move || {
        for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let runtime = builder.worker_threads(2).enable_all().build().unwrap();
            runtime
                .block_on(async { tokio::spawn(test()).await })
                .unwrap();
        }
    });
}

/// Polls a future once.
async fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    let mut future = Some(future);
    poll_fn(|context| Poll::Ready(future.take().expect("once").poll(context))).await
}

async fn ping(mut client: Stream, mut server: Stream) {
    client.write_all(b"ping").await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    server.write_all(b"pong").await.unwrap();
    server.shutdown().await.unwrap();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "pingpong");
}

#[test]
fn a_client_and_a_server_talk_and_nothing_is_left_of_the_listener() {
    in_runtimes(|| async {
        let path = safe_path();
        let error = connect(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let listener = bind(&path).unwrap();
        assert!(ipc::tokio::exists(&path).unwrap());
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
        assert!(listener.take_error().unwrap().is_none());
        let client = connect(&path).await.unwrap();
        let (server, peer) = listener.accept().await.unwrap();
        assert!(peer.is_unnamed());
        drop(listener);
        ping(client, server).await;
        assert!(!ipc::exists(&path).unwrap());
        assert!(!path.exists() || cfg!(windows), "the file is gone");
    });
}

/// Starts tasks that wait for clients, and returns once each of them waits.
async fn waiting_tasks(listener: &Arc<Listener>) -> JoinSet<io::Result<()>> {
    const ACCEPTING: u32 = 10;
    let waiting = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for number in 0..=ACCEPTING {
        let (listener, waiting) = (Arc::clone(listener), Arc::clone(&waiting));
        tasks.spawn(async move {
            let mut accept = pin!(listener.accept());
            poll_fn(|context| {
                let polled = match number {
                    ACCEPTING => listener.poll_accept(context),
                    _ => accept.as_mut().poll(context),
                };
                if polled.is_pending() {
                    waiting.fetch_add(1, Ordering::SeqCst);
                }
                polled
            })
            .await
            .map(drop)
        });
    }
    while waiting.load(Ordering::SeqCst) <= ACCEPTING {
        tokio::task::yield_now().await;
    }
    tasks
}

#[test]
fn shutdown_ends_calls_that_wait_and_later_ones_and_frees_the_path() {
    in_runtimes(|| async {
        for by_clone in [false, true] {
            let path = safe_path();
            let blocking = ipc::bind(&path).unwrap();
            let clone = blocking.try_clone().unwrap();
            let listener = Arc::new(Listener::from_std(blocking).unwrap());
            let tasks = waiting_tasks(&listener).await;
            match by_clone {
                true => clone.shutdown().unwrap(),
                false => listener.shutdown().unwrap(),
            }
            let mut ended = tasks.join_all().await;
            ended.push(listener.accept().await.map(drop));
            ended.push(
                poll_fn(|context| listener.poll_accept(context))
                    .await
                    .map(drop),
            );
            for error in ended {
                assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionAborted);
            }
            assert!(!ipc::exists(&path).unwrap());
            let _other = bind(&path).unwrap();
            drop((listener, clone));
            connect(&path).await.unwrap();
        }
    });
}

#[test]
fn shutdown_ends_calls_of_a_listener_that_tokio_has_bound() {
    in_runtimes(|| async {
        let path = safe_path();
        let listener = Arc::new(Listener::from(Inner::bind(&path).unwrap()));
        let tasks = waiting_tasks(&listener).await;
        listener.shutdown().unwrap();
        for error in tasks.join_all().await {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        }
        drop(listener);
        ipc::remove(&path).unwrap();
    });
}

#[test]
fn an_accept_that_is_given_up_loses_no_client() {
    in_runtimes(|| async {
        let path = safe_path();
        let listener = bind(&path).unwrap();
        for round in 0..50 {
            let mut client = None;
            if round % 2 == 0 {
                let mut accepting = Box::pin(listener.accept());
                assert!(poll_once(accepting.as_mut()).await.is_pending());
                if round % 4 == 0 {
                    client = Some(connect(&path).await.unwrap());
                }
            }
            let client = match client {
                Some(client) => client,
                None => connect(&path).await.unwrap(),
            };
            let (server, _) = listener.accept().await.unwrap();
            ping(client, server).await;
        }
    });
}

#[test]
fn a_listener_becomes_async_and_back_with_its_clients_and_its_name() {
    in_runtimes(|| async {
        let path = safe_path();
        let listener = ipc::bind(&path).unwrap();
        let first = connect(&path).await.unwrap();
        let listener = Listener::try_from(listener).unwrap();
        let mut accepting = Box::pin(listener.accept());
        let (server, _) = accepting.as_mut().await.unwrap();
        drop(accepting);
        ping(first, server).await;
        let second = connect(&path).await.unwrap();

        let listener = listener.into_std().unwrap();
        let (server, _) = listener.accept().unwrap();
        #[cfg(unix)]
        server.set_nonblocking(true).unwrap();
        ping(second, Stream::from_std(server).unwrap()).await;
        // It blocks again.
        let error = listener
            .accept_timeout(Duration::from_millis(20))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(listener);
        assert!(!ipc::exists(&path).unwrap());
    });
}

#[test]
fn tokios_listener_goes_in_and_out() {
    in_runtimes(|| async {
        let path = safe_path();
        let listener = Listener::from(Inner::bind(&path).unwrap());
        let client = connect(&path).await.unwrap();
        let inner = Inner::from(listener);
        let (server, _) = inner.accept().await.unwrap();
        ping(client, server).await;
        drop(inner);
        // A listener that comes out leaves its file, as one that was never in does.
        assert_eq!(path.exists(), cfg!(unix));
        drop(Inner::from(bind(&path).unwrap()));
        assert_eq!(path.exists(), cfg!(unix));
        ipc::remove(&path).unwrap();
    });
}

#[test]
fn connect_timeout_waits_for_the_server_and_for_room_and_ends_in_time() {
    in_runtimes(|| async {
        let path = safe_path();
        for time in [Duration::ZERO, Duration::from_millis(50)] {
            let start = Instant::now();
            let error = connect_timeout(&path, time).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= time);
        }
        let mut early = Box::pin(connect_timeout(&path, LIMIT));
        assert!(poll_once(early.as_mut()).await.is_pending());
        let listener = bind_with(&path, ListenOptions::new().backlog(1)).unwrap();
        let mut clients = vec![early.await.unwrap()];
        // The system may have room for a few more.
        let error = loop {
            match connect_timeout(&path, Duration::from_millis(200)).await {
                Ok(client) => clients.push(client),
                Err(error) => break error,
            }
            assert!(clients.len() < 16, "the backlog has no end");
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);

        let mut late = pin!(connect_timeout(&path, LIMIT));
        let mut patient = pin!(connect(&path));
        assert!(poll_once(late.as_mut()).await.is_pending());
        assert!(poll_once(patient.as_mut()).await.is_pending());
        let accepting = async {
            for _ in 0..clients.len() + 2 {
                listener.accept().await.unwrap();
            }
        };
        let (late, patient, ()) = tokio::join!(late, patient, accepting);
        late.unwrap();
        patient.unwrap();
    });
}

#[test]
fn a_connect_that_is_given_up_has_not_connected() {
    in_runtimes(|| async {
        let path = safe_path();
        let mut waiting = Box::pin(connect_timeout(&path, LIMIT));
        assert!(poll_once(waiting.as_mut()).await.is_pending());
        drop(waiting);
        let listener = bind(&path).unwrap();
        let mut accepting = pin!(listener.accept());
        for _ in 0..10 {
            assert!(poll_once(accepting.as_mut()).await.is_pending());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
#[cfg_attr(
    wine = "8",
    ignore = "it doesn't refuse a second first instance of a name"
)]
fn exactly_one_of_many_tasks_is_bound() {
    in_runtimes(|| async {
        let path = safe_path();
        let mut tasks = JoinSet::new();
        for _ in 0..32 {
            let path = path.clone();
            tasks.spawn(async move { connect_or_bind(&path).await.unwrap() });
        }
        let (mut bound, mut clients) = (Vec::new(), Vec::new());
        for outcome in tasks.join_all().await {
            match outcome {
                ConnectOrBind::Bound(listener) => bound.push(listener),
                ConnectOrBind::Connected(stream) => clients.push(stream),
            }
        }
        assert_eq!((bound.len(), clients.len()), (1, 31));
        for _ in &clients {
            bound[0].accept().await.unwrap();
        }
        let error = connect_or_bind_with(&path, ListenOptions::new().backlog(0))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn both_ends_know_each_other() {
    in_runtimes(|| async {
        let path = safe_path();
        let listener = bind(&path).unwrap();
        let client = connect(&path).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        for end in [&client, &server] {
            let cred = peer_cred(end).unwrap();
            assert_eq!(cred.pid(), Some(process::id()));
            assert!(cred.is_same_user());
            assert_eq!(cred.user(), Some(ipc::User::current().unwrap()));
        }
    });
}

#[test]
fn accepting_needs_no_timer_of_the_runtime() {
    within(LIMIT, || {
        let runtime = Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let path = safe_path();
            let listener = bind(&path).unwrap();
            let (client, server) = tokio::join!(connect(&path), listener.accept());
            ping(client.unwrap(), server.unwrap().0).await;
        });
    });
}

#[cfg(unix)]
#[test]
fn a_killed_servers_file_is_taken_over_and_others_folders_are_refused() {
    in_runtimes(|| async {
        let path = safe_path();
        // Tokio's listener leaves its file, as a killed one does.
        drop(tokio::net::UnixListener::bind(&path).unwrap());
        assert!(ipc::is_not_running(&connect(&path).await.unwrap_err()));
        let listener = bind(&path).unwrap();
        connect(&path).await.unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listener);
        // Anybody can write to that directory.
        let shared = std::env::temp_dir().join(format!("winpipe-async-{}", process::id()));
        let _stranger = tokio::net::UnixListener::bind(&shared).unwrap();
        let errors = [
            connect(&shared).await.map(drop),
            connect_timeout(&shared, LIMIT).await.map(drop),
            connect_or_bind(&shared).await.map(drop),
        ];
        std::fs::remove_file(&shared).unwrap();
        for error in errors {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    });
}
