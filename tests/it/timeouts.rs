//! Settings that change while a call waits.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{A_WHILE, AT_ONCE, LIMIT, connection, connections, text, within};

#[test]
fn a_changed_timeout_wakes_a_waiting_read_which_follows_it() {
    within(LIMIT, || {
        for (one, _other) in connections() {
            for before in [None, Some(Duration::from_secs(3600)), Some(Duration::MAX)] {
                one.set_read_timeout(before).unwrap();
                let clone = one.try_clone().unwrap();
                thread::scope(|scope| {
                    let reader = scope.spawn(move || (&clone).read(&mut [0]));
                    thread::sleep(A_WHILE);
                    let start = Instant::now();
                    one.set_read_timeout(Some(Duration::from_millis(100)))
                        .unwrap();
                    let error = reader.join().unwrap().unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    assert!(start.elapsed() >= Duration::from_millis(40));
                    assert!(start.elapsed() < AT_ONCE);
                });
            }
        }
    });
}

#[test]
fn a_longer_timeout_keeps_a_waiting_read_waiting() {
    within(LIMIT, || {
        for (one, mut other) in connections() {
            let timeout = Duration::from_millis(400);
            one.set_read_timeout(Some(timeout)).unwrap();
            let clone = one.try_clone().unwrap();
            let start = Instant::now();
            thread::scope(|scope| {
                let reader = scope.spawn(move || (&clone).read(&mut [0]));
                thread::sleep(A_WHILE);
                one.set_read_timeout(None).unwrap();
                // On a busy machine the read may have timed out before it was told to wait.
                let in_time = start.elapsed() < timeout;
                // Settings of the other direction, and the same again, are no reason to stop.
                one.set_write_timeout(Some(Duration::from_millis(1)))
                    .unwrap();
                one.set_read_timeout(None).unwrap();
                one.set_nonblocking(false).unwrap();
                thread::sleep(timeout);
                if in_time {
                    assert!(!reader.is_finished());
                }
                other.write_all(b"x").unwrap();
                let read = reader.join().unwrap();
                assert!(!in_time || read.unwrap() == 1);
            });
        }
    });
}

#[test]
fn the_same_timeout_set_again_begins_anew() {
    within(LIMIT, || {
        let (one, _other) = connection();
        let timeout = Duration::from_millis(400);
        one.set_read_timeout(Some(timeout)).unwrap();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let error = (&one).read(&mut [0]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                Instant::now()
            });
            thread::sleep(timeout / 2);
            let again = Instant::now();
            one.set_read_timeout(Some(timeout)).unwrap();
            let ended = reader.join().unwrap();
            // Unless it had ended before, on a busy machine.
            assert!(ended < again || ended - again >= timeout * 9 / 10);
        });
    });
}

#[test]
fn a_changed_timeout_wakes_a_waiting_write_which_follows_it() {
    within(LIMIT, || {
        for (one, mut other) in connections() {
            let clone = one.try_clone().unwrap();
            let sent = thread::scope(|scope| {
                let writer = scope.spawn(move || {
                    let mut sent = 0;
                    loop {
                        match (&clone).write(&text(sent, 50_000)) {
                            Ok(count) => sent += count,
                            Err(error) => return (sent, error.kind()),
                        }
                    }
                });
                thread::sleep(A_WHILE);
                one.set_write_timeout(Some(Duration::from_millis(10)))
                    .unwrap();
                let (sent, kind) = writer.join().unwrap();
                assert_eq!(kind, ErrorKind::TimedOut);
                sent
            });
            drop(one);
            let mut bytes = Vec::new();
            other.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, text(0, sent));
        }
    });
}

#[test]
fn nonblocking_on_one_clone_ends_what_waits_on_another() {
    within(LIMIT, || {
        for (one, _other) in connections() {
            let (reader, peeker, writer) = (
                one.try_clone().unwrap(),
                one.try_clone().unwrap(),
                one.try_clone().unwrap(),
            );
            thread::scope(|scope| {
                let waiting = [
                    scope.spawn(move || (&reader).read(&mut [0]).map(|_| ())),
                    scope.spawn(move || peeker.peek(&mut [0]).map(|_| ())),
                    scope.spawn(move || {
                        loop {
                            (&writer).write_all(&[0; 50_000])?;
                        }
                    }),
                ];
                thread::sleep(A_WHILE);
                let start = Instant::now();
                one.set_nonblocking(true).unwrap();
                for call in waiting {
                    let error = call.join().unwrap().unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                }
                assert!(start.elapsed() < AT_ONCE);
            });
        }
    });
}

#[test]
fn settings_change_thousands_of_times_under_a_waiting_read() {
    within(LIMIT, || {
        for (one, mut other) in connections() {
            thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    let mut bytes = [0; 2000];
                    (&one).read_exact(&mut bytes).unwrap();
                    assert_eq!(bytes[..], text(0, 2000));
                });
                for place in 0..2000 {
                    let timeout = Duration::from_secs(1000 + place as u64);
                    one.set_read_timeout(Some(timeout)).unwrap();
                    other.write_all(&text(place, 1)).unwrap();
                }
                reader.join().unwrap();
            });
        }
    });
}

#[test]
fn timeouts_are_read_back_to_the_nanosecond() {
    let (one, _other) = connection();
    for timeout in [
        Duration::from_nanos(1),
        Duration::new(1, 234_567_891),
        Duration::MAX,
    ] {
        one.set_read_timeout(Some(timeout)).unwrap();
        one.set_write_timeout(Some(timeout)).unwrap();
        assert_eq!(one.read_timeout().unwrap(), Some(timeout));
        assert_eq!(one.write_timeout().unwrap(), Some(timeout));
    }
}

#[test]
fn a_write_that_times_out_sends_what_there_is_room_for() {
    within(LIMIT, || {
        for (mut one, mut other) in connections() {
            one.set_write_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            let sent = text(0, 3 << 20);
            // Room for a part of the next write, which isn't enough for all of it.
            let mut count = 800_000;
            one.write_all(&sent[..count]).unwrap();
            for _ in 0..3 {
                count += match one.write(&sent[count..count + 600_000]) {
                    Ok(part) => {
                        assert!((4096..600_000).contains(&part), "{part}");
                        part
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::TimedOut);
                        0
                    }
                };
            }
            assert!(count > 800_000, "no part of it");
            drop(one);
            let mut read = Vec::new();
            other.read_to_end(&mut read).unwrap();
            assert!(read == sent[..count], "{} of {count}", read.len());
        }
    });
}
