//! What std's streams don't have, or not of this size: peek, drain, buffers beyond 4 GiB.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use winpipe::{WinListener, WinStream};

use crate::common::{A_WHILE, LIMIT, connections, fresh_path, text, within};

#[test]
fn peek_shows_bytes_without_taking_them() {
    within(LIMIT, || {
        for (mut one, mut other) in connections() {
            other.write_all(b"hello").unwrap();
            for _ in 0..2 {
                let mut buf = [0; 8];
                assert_eq!(one.peek(&mut buf[..2]).unwrap(), 2);
                assert_eq!(&buf[..2], b"he");
                assert_eq!(one.peek(&mut buf).unwrap(), 5);
                assert_eq!(&buf[..5], b"hello");
                assert_eq!(one.peek(&mut []).unwrap(), 0);
            }
            let mut buf = [0; 8];
            assert_eq!(one.read(&mut buf[..3]).unwrap(), 3);
            assert_eq!(one.peek(&mut buf).unwrap(), 2);
            assert_eq!(&buf[..2], b"lo");
            one.read_exact(&mut buf[..2]).unwrap();

            one.set_nonblocking(true).unwrap();
            assert_eq!(
                one.peek(&mut buf).unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
            one.set_nonblocking(false).unwrap();
            one.set_read_timeout(Some(Duration::from_millis(10)))
                .unwrap();
            assert_eq!(one.peek(&mut buf).unwrap_err().kind(), ErrorKind::TimedOut);
            one.set_read_timeout(None).unwrap();

            other.write_all(b"last").unwrap();
            other.shutdown(Shutdown::Write).unwrap();
            assert_eq!(one.peek(&mut buf).unwrap(), 4);
            one.read_exact(&mut buf[..4]).unwrap();
            for _ in 0..2 {
                assert_eq!(one.peek(&mut buf).unwrap(), 0);
                assert_eq!(one.read(&mut buf).unwrap(), 0);
            }
        }
    });
}

#[test]
fn a_waiting_peek_ends_with_bytes_with_the_end_and_with_shutdown() {
    within(LIMIT, || {
        for (one, mut other) in connections() {
            let peek_during = |action: &mut dyn FnMut()| {
                thread::scope(|scope| {
                    let waiting = scope.spawn(|| one.peek(&mut [0; 8]).unwrap());
                    thread::sleep(A_WHILE);
                    action();
                    waiting.join().unwrap()
                })
            };
            assert_eq!(peek_during(&mut || other.write_all(b"hello").unwrap()), 5);
            (&one).read_exact(&mut [0; 5]).unwrap();
            assert_eq!(
                peek_during(&mut || other.shutdown(Shutdown::Write).unwrap()),
                0
            );
            assert_eq!((&one).read(&mut [0]).unwrap(), 0);
        }
        for (one, other) in connections() {
            thread::scope(|scope| {
                let waiting = scope.spawn(|| one.peek(&mut [0; 8]).unwrap());
                thread::sleep(A_WHILE);
                one.shutdown(Shutdown::Read).unwrap();
                assert_eq!(waiting.join().unwrap(), 0);
            });
            drop(other);
        }
    });
}

#[test]
fn peeks_and_reads_of_several_threads_lose_nothing() {
    within(LIMIT, || {
        for (one, mut other) in connections() {
            thread::scope(|scope| {
                let peeker = scope.spawn(|| while one.peek(&mut [0; 100]).unwrap() > 0 {});
                let reader = scope.spawn(|| {
                    let mut bytes = Vec::new();
                    (&one).read_to_end(&mut bytes).unwrap();
                    bytes
                });
                for place in (0..100_000).step_by(50) {
                    other.write_all(&text(place, 50)).unwrap();
                }
                other.shutdown(Shutdown::Write).unwrap();
                assert_eq!(reader.join().unwrap(), text(0, 100_000));
                peeker.join().unwrap();
            });
        }
    });
}

#[test]
fn drain_waits_until_the_peer_has_read_everything() {
    within(LIMIT, || {
        for (mut one, mut other) in connections() {
            one.drain().unwrap();
            one.write_all(&text(0, 1000)).unwrap();
            one.write_all(&text(1000, 1000)).unwrap();
            thread::scope(|scope| {
                let draining = scope.spawn(|| one.drain());
                other.read_exact(&mut [0; 1999]).unwrap();
                thread::sleep(A_WHILE);
                assert!(!draining.is_finished());
                other.read_exact(&mut [0]).unwrap();
                draining.join().unwrap().unwrap();
            });
        }
    });
}

#[test]
fn drain_is_a_broken_pipe_when_the_peer_is_gone() {
    within(LIMIT, || {
        for (mut one, other) in connections() {
            one.write_all(b"unread").unwrap();
            drop(other);
            assert_eq!(one.drain().unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
        for (mut one, other) in connections() {
            one.write_all(b"unread").unwrap();
            thread::scope(|scope| {
                let draining = scope.spawn(|| one.drain());
                thread::sleep(A_WHILE);
                drop(other);
                let error = draining.join().unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            });
        }
    });
}

#[test]
fn what_one_call_writes_is_not_interrupted_by_other_calls() {
    within(LIMIT, || {
        const QUOTA: usize = 32 << 10;
        let path = fresh_path();
        let mut options = WinListener::options();
        let listener = options.inbound_buffer(QUOTA).bind(&path).unwrap();
        let client = WinStream::connect(&path).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        // Refused writes are halved, which is where others could come between.
        client.set_nonblocking(true).unwrap();
        let written = thread::scope(|scope| {
            let writers: Vec<_> = (0..3_u32)
                .map(|writer| {
                    let client = &client;
                    scope.spawn(move || {
                        let mut written = Vec::new();
                        while written.len() < 300 {
                            // What a call writes is its number, again and again.
                            let call = writer * 1000 + written.len() as u32;
                            let bytes: Vec<u8> =
                                call.to_le_bytes().into_iter().cycle().take(QUOTA).collect();
                            let (one, two) = bytes.split_at((QUOTA / 3) & !3);
                            let count = match call % 2 {
                                0 => (&*client).write(&bytes),
                                _ => (&*client)
                                    .write_vectored(&[IoSlice::new(one), IoSlice::new(two)]),
                            };
                            match count {
                                Ok(count) => written.push((call, count)),
                                Err(error) => {
                                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                                    thread::yield_now();
                                }
                            }
                        }
                        written
                    })
                })
                .collect();
            let reader = scope.spawn(move || {
                let mut bytes = Vec::new();
                let mut buf = vec![0; 24_000];
                loop {
                    match server.read(&mut buf).unwrap() {
                        0 => break bytes,
                        count => bytes.extend_from_slice(&buf[..count]),
                    }
                }
            });
            let written: Vec<_> = writers
                .into_iter()
                .flat_map(|writer| writer.join().unwrap())
                .collect();
            client.shutdown(Shutdown::Write).unwrap();
            let bytes = reader.join().unwrap();
            // One run for each call, of all that it wrote.
            let mut rest = &bytes[..];
            let mut left: std::collections::HashMap<_, _> = written.into_iter().collect();
            while let Some(call) = rest.first_chunk() {
                let call = u32::from_le_bytes(*call);
                let count = left.remove(&call).expect("a call that is interrupted");
                let run = rest[..count].chunks(4);
                assert!({ run }.all(|chunk| chunk == call.to_le_bytes()));
                rest = &rest[count..];
            }
            left.len()
        });
        assert_eq!(written, 0);
    });
}

#[test]
fn buffers_over_4_gib_are_read_into_and_written_from() {
    within(LIMIT, || {
        const HUGE: usize = (4 << 30) + 10;
        // `vec!` would end the process.
        let there_is_room = Vec::<u8>::new().try_reserve_exact(HUGE);
        there_is_room.expect("this test needs 4 GiB of memory");
        // Promised by the system, but not used until touched.
        let mut huge = vec![0_u8; HUGE];
        for (mut one, mut other) in connections() {
            other.write_all(b"hello").unwrap();
            assert_eq!(one.peek(&mut huge).unwrap(), 5);
            assert_eq!(one.read(&mut huge).unwrap(), 5);
            assert_eq!(&huge[..5], b"hello");

            one.set_nonblocking(true).unwrap();
            let count = one.write(&huge).unwrap();
            assert!(0 < count && count < huge.len());
            // A slice of that size is beyond std's IoSlice, but several of them aren't.
            let slices = [IoSlice::new(&huge[..u32::MAX as usize]); 3];
            let again = one.write_vectored(&slices);
            assert_eq!(again.unwrap_err().kind(), ErrorKind::WouldBlock);
            drop(one);
            let mut bytes = Vec::new();
            other.read_to_end(&mut bytes).unwrap();
            assert!(bytes == huge[..count]);
        }
    });
}
