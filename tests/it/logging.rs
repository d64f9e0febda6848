//! The logger is the user's code: it may call the crate, on the same objects too, and panic.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{panic, thread};

use winpipe::{WinListener, WinStream};

use crate::common::handles::handles;
use crate::common::logger::logging;
use crate::common::process::is_alone;
use crate::common::token::impersonation_level;
use crate::common::{LIMIT, connection, connections, fresh_path, within};

/// A panic that isn't shown: there are thousands.
struct Quiet;

fn panic_quietly() {
    panic::resume_unwind(Box::new(Quiet));
}

#[test]
fn a_panic_of_the_logger_leaves_a_call_with_its_result() {
    within(LIMIT, || {
        for at in ["ReadFile", "WaitForSingleObject", "CancelIoEx", ""] {
            for (mut one, mut other) in connections() {
                one.set_read_timeout(Some(Duration::from_millis(5)))
                    .unwrap();
                let panics = move |record: &str| {
                    if record.contains(at) {
                        panic_quietly();
                    }
                };
                logging(panics, || {
                    let mut buf = [0; 8];
                    assert_eq!(one.read(&mut buf).unwrap_err().kind(), ErrorKind::TimedOut);
                    // The kernel has let go of the buffer: what comes now isn't written there.
                    other.write_all(b"hello").unwrap();
                    assert_eq!(buf, [0; 8]);
                    assert_eq!(one.peek(&mut buf).unwrap(), 5);
                    assert_eq!(one.read(&mut buf).unwrap(), 5);
                    one.shutdown(Shutdown::Both).unwrap();
                    assert_eq!(other.read(&mut buf).unwrap(), 0);
                });
            }
        }
    });
}

#[test]
fn a_client_is_accepted_although_the_logger_panics() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut client = WinStream::connect(&path).unwrap();
        let mut server = logging(|_| panic_quietly(), || listener.accept().unwrap().0);
        client.write_all(b"x").unwrap();
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);
        logging(|_| panic_quietly(), || listener.reject_remote(false)).unwrap();
    });
}

#[test]
fn the_logger_may_panic_while_another_panic_unwinds() {
    within(LIMIT, || {
        let (one, other) = connection();
        let unwound = panic::catch_unwind(AssertUnwindSafe(|| {
            logging(
                |_| panic_quietly(),
                move || {
                    let _both = (one, other);
                    panic_quietly();
                },
            )
        }));
        assert!(unwound.unwrap_err().is::<Quiet>());
    });
}

#[test]
fn records_come_in_the_order_of_the_calls_and_a_loggers_own_calls_leave_none() {
    within(LIMIT, || {
        let (mut one, mut other) = connection();
        one.set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let records = Rc::new(RefCell::new(Vec::new()));
        let (to, log) = (records.clone(), WinStream::pair().unwrap());
        let keep = move |record: &str| {
            let name = record.split('(').next().unwrap_or_default();
            to.borrow_mut().push(name.to_owned());
            (&log.0).write_all(b"a record").unwrap();
        };
        logging(keep, || {
            one.read(&mut [0]).unwrap_err();
            other.write_all(b"x").unwrap();
            one.read_exact(&mut [0]).unwrap();
        });
        let records = records.take();
        let read = records
            .iter()
            .position(|name| name == "WaitForSingleObject");
        assert_eq!(records[read.unwrap() - 1], "ReadFile", "{records:?}");
        assert_eq!(
            records[records.len() - 3..],
            ["CancelIoEx", "WriteFile", "ReadFile"]
        );
    });
}

#[test]
fn no_record_is_written_while_the_thread_acts_as_a_client() {
    within(LIMIT, || {
        let (mut client, mut server) = connection();
        client.write_all(b"xx").unwrap();
        server.read_exact(&mut [0]).unwrap();
        let acted = Rc::new(Cell::new(0));
        let records = Rc::new(RefCell::new(Vec::new()));
        let (count, to) = (acted.clone(), records.clone());
        let look = move |record: &str| {
            count.set(count.get() + u32::from(impersonation_level().is_some()));
            to.borrow_mut().push(record.to_owned());
        };
        logging(look, || {
            server.peer_cred().unwrap();
            let acting = server.impersonate().unwrap();
            assert!(impersonation_level().is_some());
            (&server).read_exact(&mut [0]).unwrap();
            let so_far = records.borrow().len();
            drop(acting);
            assert!(records.borrow().len() >= so_far + 3, "written at last");
        });
        assert_eq!(acted.get(), 0);
        let written = |name| {
            records
                .borrow()
                .iter()
                .filter(|r| r.starts_with(name))
                .count()
        };
        assert_eq!(written("ImpersonateNamedPipeClient"), 2);
        assert_eq!(written("RevertToSelf"), 2);
    });
}

/// Everything that a scenario and its logger use, and what became of every client and byte.
struct World {
    listener: WinListener,
    streams: Mutex<Vec<Arc<WinStream>>>,
    connected: AtomicUsize,
    accepted: AtomicUsize,
    written: AtomicUsize,
    read: AtomicUsize,
    records: AtomicUsize,
    /// The record at which the logger panics.
    panics_at: usize,
}

impl World {
    /// Does what the API offers with every object. Nothing here waits, but for what it must not wait
    /// for.
    fn do_everything(&self) {
        self.accept();
        self.listener.reject_remote(true).unwrap();
        self.listener.reject_remote(false).unwrap();
        drop(self.listener.try_clone().unwrap());
        // Not under the lock: the logger takes it, too.
        let streams = self.streams.lock().unwrap().clone();
        for stream in &streams {
            drop(stream.try_clone().unwrap());
            stream.set_nonblocking(true).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(1)))
                .unwrap();
            stream.set_write_timeout(None).unwrap();
            let mut buf = [0; 64];
            let _ = stream.peek(&mut buf);
            self.written
                .fetch_add((&**stream).write(b"hello").unwrap_or(0), Ordering::SeqCst);
            self.read.fetch_add(
                (&**stream).read(&mut buf[..3]).unwrap_or(0),
                Ordering::SeqCst,
            );
            stream.peer_cred().unwrap();
            drop(stream.impersonate());
        }
        let (one, other) = WinStream::pair().unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        assert_eq!((&other).read(&mut [0]).unwrap(), 0);
        one.drain().unwrap();
    }

    /// Accepts the clients that are there.
    fn accept(&self) {
        self.listener.set_nonblocking(true).unwrap();
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            self.accepted.fetch_add(1, Ordering::SeqCst);
            self.streams.lock().unwrap().push(Arc::new(stream));
        }
    }

    fn connect(&self) {
        let stream = WinStream::connect_addr(&self.listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        self.connected.fetch_add(1, Ordering::SeqCst);
        self.streams.lock().unwrap().push(Arc::new(stream));
    }
}

/// Two threads do everything, and so do their loggers at every record. Returns how many records
/// there were.
fn scenario(panics_at: usize) -> usize {
    let world = Box::leak(Box::new(World {
        listener: WinListener::options()
            .backlog(2)
            .bind(fresh_path())
            .unwrap(),
        streams: Mutex::new(Vec::new()),
        connected: AtomicUsize::new(0),
        accepted: AtomicUsize::new(0),
        written: AtomicUsize::new(0),
        read: AtomicUsize::new(0),
        records: AtomicUsize::new(0),
        panics_at,
    }));
    let world: &'static World = world;
    let at_record = move |_: &str| {
        let record = world.records.fetch_add(1, Ordering::SeqCst);
        // Every so often, or it would be too much of a good thing.
        if record % 8 == 0 || record == world.panics_at {
            world.do_everything();
        }
        if record == world.panics_at {
            panic_quietly();
        }
    };
    let (sender, receiver) = WinStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| logging(at_record, || sender.send_handle(&sender).unwrap()));
        logging(at_record, || receiver.recv_handle().unwrap());
    });
    // Before `reject_remote` is called by several threads: that may close a connection that is being
    // made.
    logging(at_record, || world.connect());
    let threads = [(); 2].map(|()| {
        thread::spawn(move || {
            logging(at_record, || world.do_everything());
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }

    world.accept();
    assert_eq!(
        world.accepted.load(Ordering::SeqCst),
        world.connected.load(Ordering::SeqCst)
    );
    let streams = std::mem::take(&mut *world.streams.lock().unwrap());
    for stream in &streams {
        stream.shutdown(Shutdown::Write).unwrap();
        stream.set_nonblocking(false).unwrap();
    }
    for stream in streams {
        let rest = (&*stream).read_to_end(&mut Vec::new()).unwrap();
        world.read.fetch_add(rest, Ordering::SeqCst);
    }
    assert_eq!(
        world.read.load(Ordering::SeqCst),
        world.written.load(Ordering::SeqCst)
    );
    world.listener.shutdown().unwrap();
    world.records.load(Ordering::SeqCst)
}

#[test]
fn a_logger_may_do_everything_at_every_record_and_panic_at_any() {
    if !is_alone("logging::a_logger_may_do_everything_at_every_record_and_panic_at_any") {
        return;
    }
    within(LIMIT * 3, || {
        // The first runs make what threads and processes keep.
        let records = scenario(usize::MAX);
        assert!(records > 50, "{records}");
        let before = handles();
        for n in 0..records {
            scenario(n);
        }
        // Other tests run meanwhile, so a few more may be open; one for each scenario is a leak.
        let after = handles();
        assert!(
            after < before + records / 2,
            "{before} handles, then {after}"
        );
    });
}
