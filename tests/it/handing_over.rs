//! Handles that go from one process to another.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::net::Shutdown;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::sync::Mutex;
use std::time::Duration;
use std::{ptr, thread};

use windows_sys::Win32::Foundation::WAIT_OBJECT_0;
use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_DELETE_ON_CLOSE;
use windows_sys::Win32::System::Threading::{CreateEventW, SetEvent, WaitForSingleObject};
use winpipe::{ListenOptions, WinStream};

use crate::common::process::{be_child, connected_child, kill, ready};
use crate::common::{LIMIT, assert_fails, connect_by, connection, connections, within};

/// What the two sides say to each other: a mark, a step, an identifier, a process and a number.
const MESSAGE: usize = 36;

const OFFERED: u8 = 1;

const TAKEN: u8 = 2;

const REFUSED: u8 = 3;

const GIVEN: u8 = 4;

const WITHDRAWN: u8 = 5;

/// For calls that are to time out.
const SHORT: Option<Duration> = Some(Duration::from_millis(20));

fn message(step: u8, id: u128, process: u32, number: u64) -> [u8; MESSAGE] {
    let mut message = *b"handoff\0................____........";
    message[7] = step;
    message[8..24].copy_from_slice(&id.to_le_bytes());
    message[24..28].copy_from_slice(&process.to_le_bytes());
    message[28..].copy_from_slice(&number.to_le_bytes());
    message
}

/// Reads a message, and returns its step and its identifier.
fn read_message(mut stream: &WinStream) -> (u8, u128) {
    let mut message = [0; MESSAGE];
    stream.read_exact(&mut message).unwrap();
    let id = u128::from_le_bytes(message[8..24].try_into().unwrap());
    (message[7], id)
}

/// Reads an offer, and returns its identifier.
fn read_offer(stream: &WinStream) -> u128 {
    let (step, id) = read_message(stream);
    assert_eq!(step, OFFERED);
    id
}

fn offer(mut stream: &WinStream, id: u128, process: u32, number: u64) {
    let offer = message(OFFERED, id, process, number);
    stream.write_all(&offer).unwrap();
}

fn answer(mut stream: &WinStream, step: u8, id: u128) {
    stream.write_all(&message(step, id, 0, 0)).unwrap();
}

/// Makes an offer that the receiver must refuse.
fn offer_in_vain(stream: &WinStream, id: u128, process: u32, number: u64) {
    offer(stream, id, process, number);
    assert_eq!(read_message(stream), (REFUSED, id));
    answer(stream, REFUSED, id);
}

/// Declines the offer that comes, as a receiver that can't take the handle does.
fn decline(stream: &WinStream) {
    let id = read_offer(stream);
    answer(stream, REFUSED, id);
    assert_eq!(read_message(stream), (REFUSED, id));
}

fn number(handle: &impl AsRawHandle) -> u64 {
    handle.as_raw_handle().addr() as u64
}

/// Asserts that `one` is the other end of `other`, and that nobody else has it open.
fn assert_is_the_only_end(one: impl Into<WinStream>, other: &WinStream) {
    let (mut one, mut other) = (one.into(), other);
    one.write_all(b"the one").unwrap();
    other.read_exact(&mut [0; 7]).unwrap();
    drop(one);
    assert_is_closed(other);
}

/// Asserts that nobody has the other end open.
fn assert_is_closed(mut end: &WinStream) {
    end.set_read_timeout(Some(LIMIT / 2)).unwrap();
    assert_eq!(end.read(&mut [0]).unwrap(), 0);
}

/// Asserts that `sender` can give a handle to `receiver`, and keeps no copy.
fn assert_hands_over(sender: &WinStream, receiver: &WinStream) {
    let (one, other) = WinStream::pair().unwrap();
    let taken = thread::scope(|scope| {
        let receiving = scope.spawn(|| receiver.recv_handle().unwrap());
        sender.send_handle(&one).unwrap();
        receiving.join().unwrap()
    });
    drop(one);
    assert_is_the_only_end(taken, &other);
}

/// Asserts that data goes both ways.
fn assert_carries_data(one: &WinStream, other: &WinStream) {
    for (mut one, mut other) in [(one, other), (other, one)] {
        one.write_all(b"data").unwrap();
        let mut data = [0; 4];
        other.read_exact(&mut data).unwrap();
        assert_eq!(&data, b"data");
    }
}

/// A file that contains `text`, read from its start. It's gone when all its handles are closed.
fn temporary_file(name: &str, text: &str) -> File {
    let name = format!("winpipe-{name}-{}", std::process::id());
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(FILE_FLAG_DELETE_ON_CLOSE)
        .open(std::env::temp_dir().join(name))
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

/// What a process of its own does.
#[test]
#[ignore = "the process that other tests start"]
fn child_process() {
    be_child(|task, path| {
        let mut stream = WinStream::connect(path).unwrap();
        ready();
        match task {
            // Takes a file, a pipe and an event, and uses them.
            "take" => {
                let mut file = File::from(stream.recv_handle().unwrap());
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                let mut pipe = WinStream::from(stream.recv_handle().unwrap());
                pipe.write_all(text.to_uppercase().as_bytes()).unwrap();
                drop(pipe);
                let event = stream.recv_handle().unwrap();
                // SAFETY: the handle is open, and an event's.
                assert_ne!(unsafe { SetEvent(event.as_raw_handle()) }, 0);
                stream.read_exact(&mut [0]).unwrap();
            }
            // Reads the offer, says so by connecting once more, and never takes it.
            "stall" => {
                stream.read_exact(&mut [0; MESSAGE]).unwrap();
                let _connection = WinStream::connect(path).unwrap();
                thread::park();
            }
            // Sends a file, stops waiting, and turns the stream into a handle. Other objects get the
            // number that was offered.
            "stop-waiting" => {
                stream.set_read_timeout(SHORT).unwrap();
                let file = temporary_file("late", "of the child");
                stream.send_handle(&file).unwrap_err();
                let _handle = OwnedHandle::from(stream);
                let _others: Vec<_> = (0..50).map(|_| WinStream::pair().unwrap()).collect();
                let _connection = WinStream::connect(path).unwrap();
                thread::park();
            }
            // Sends a file, and doesn't live to see it taken.
            "offer" => {
                let file = temporary_file("offer", "of the child");
                stream.send_handle(&file).unwrap();
            }
            // Gets an end of a pipe, and sends a file by it as one should. Meanwhile many of its numbers
            // mean something else to the other process.
            "pass-on" => {
                let end = WinStream::from(stream.recv_handle().unwrap());
                let file = temporary_file("pass-on", "of the child");
                for _ in 0..10 {
                    assert_fails(end.send_handle(&file), ErrorKind::PermissionDenied);
                }
                stream.write_all(b"x").unwrap();
            }
            // Gets an end of a pipe, and offers by it what isn't its own.
            "cheat" => {
                let end = WinStream::from(stream.recv_handle().unwrap());
                let mut theirs = [0; 12];
                stream.read_exact(&mut theirs).unwrap();
                let process = u32::from_le_bytes(theirs[..4].try_into().unwrap());
                let number = u64::from_le_bytes(theirs[4..].try_into().unwrap());
                let offer = |id, process, number| offer_in_vain(&end, id, process, number);
                offer(1, process, number);
                offer(2, std::process::id(), number);
                offer(3, std::process::id() + 4, number);
                // The identifier of an offer that was made, but isn't any more.
                let id = read_offer(&stream);
                answer(&stream, TAKEN, id);
                assert_eq!(read_message(&stream), (GIVEN, id));
                offer(id, process, number);
            }
            // Offers what is no handle of its own.
            "dead" => {
                for number in [0, u64::MAX, u64::MAX - 1, 1 << 40, 0x7FFF_FFF0] {
                    offer_in_vain(&stream, number.into(), std::process::id(), number);
                }
            }
            _ => panic!("no such task: {task}"),
        }
    });
}

#[test]
fn a_file_a_pipe_and_an_event_go_to_another_process() {
    within(LIMIT, || {
        let (mut child, _listener, mut stream) = connected_child("handing_over::take");

        let file = temporary_file("handle", "from another process");
        stream.send_handle(&file).unwrap();

        let (ours, theirs) = WinStream::pair().unwrap();
        stream.send_handle(&theirs).unwrap();
        // Ours stays ours: the end comes when both are closed.
        drop(theirs);
        let mut text = String::new();
        (&ours).read_to_string(&mut text).unwrap();
        assert_eq!(text, "FROM ANOTHER PROCESS");

        // SAFETY: no attributes, no name; the handle is new.
        let event = unsafe {
            let event = CreateEventW(ptr::null(), 1, 0, ptr::null());
            OwnedHandle::from_raw_handle(event)
        };
        stream.send_handle(&event).unwrap();
        // SAFETY: the handle is open.
        let waited = unsafe { WaitForSingleObject(event.as_raw_handle(), 30_000) };
        assert_eq!(waited, WAIT_OBJECT_0);

        stream.write_all(b"x").unwrap();
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn handles_go_between_all_kinds_of_ends_of_one_process() {
    within(LIMIT, || {
        for (sender, receiver) in connections() {
            assert_hands_over(&sender, &receiver);
            assert_hands_over(&receiver, &sender);
            assert_carries_data(&sender, &receiver);
        }
    });
}

/// Windows records that this process opened the end which the child has. So the child's numbers must not
/// be looked up here.
#[test]
fn a_handle_that_is_sent_on_an_end_of_ours_is_refused_and_not_taken_from_us() {
    within(LIMIT, || {
        let (mut child, _listener, mut stream) = connected_child("handing_over::pass-on");
        // These take the numbers that the child's handles have.
        let _ours: Vec<_> = (0..200).map(|_| WinStream::pair().unwrap()).collect();
        let (ours, theirs) = WinStream::pair().unwrap();
        stream.send_handle(&theirs).unwrap();
        drop(theirs);
        for _ in 0..10 {
            assert_fails(ours.recv_handle(), ErrorKind::PermissionDenied);
        }
        stream.read_exact(&mut [0]).unwrap();
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_peer_that_lies_about_its_process_gets_nobody_elses_handle_taken() {
    within(LIMIT, || {
        let (mut child, _listener, mut stream) = connected_child("handing_over::cheat");
        let secret = temporary_file("secret", "of the parent");
        let (ours, theirs) = WinStream::pair().unwrap();
        stream.send_handle(&theirs).unwrap();
        drop(theirs);
        stream.write_all(&std::process::id().to_le_bytes()).unwrap();
        stream.write_all(&number(&secret).to_le_bytes()).unwrap();
        for kind in [
            // The child names this process,
            ErrorKind::InvalidData,
            // itself, which didn't open the end,
            ErrorKind::PermissionDenied,
            // and a third.
            ErrorKind::PermissionDenied,
        ] {
            assert_fails(ours.recv_handle(), kind);
        }
        stream.send_handle(&secret).unwrap();
        assert_fails(ours.recv_handle(), ErrorKind::InvalidData);
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn an_offer_of_this_process_is_known_by_its_identifier_and_not_by_a_number() {
    within(LIMIT, || {
        let (sender, stranger) = connection();
        let (one, other) = WinStream::pair().unwrap();
        let (receiver, cheat) = connection();
        let secret = temporary_file("identifier", "secret");
        let id = thread::scope(|scope| {
            let sending = scope.spawn(|| sender.send_handle(&one));
            let id = read_offer(&stranger);
            // The process that gets the offer repeats it on another stream, with another number. The
            // number doesn't count: the handle is the one that was offered.
            offer(&cheat, id, std::process::id(), number(&secret));
            answer(&cheat, GIVEN, id);
            let taken = receiver.recv_handle().unwrap();
            WinStream::from(taken).write_all(b"one").unwrap();
            (&other).read_exact(&mut [0; 3]).unwrap();
            assert_eq!(read_message(&cheat), (TAKEN, id));
            answer(&stranger, REFUSED, id);
            assert_eq!(read_message(&stranger), (REFUSED, id));
            assert_fails(sending.join().unwrap(), ErrorKind::PermissionDenied);
            id
        });
        // Now there is no such offer any more.
        offer(&cheat, id, std::process::id(), number(&secret));
        answer(&cheat, REFUSED, id);
        assert_fails(receiver.recv_handle(), ErrorKind::InvalidData);
        drop(one);
        assert_is_closed(&other);
    });
}

#[test]
fn a_receiver_that_dies_between_the_two_steps_leaves_the_handle_with_its_owner() {
    within(LIMIT, || {
        let (child, listener, stream) = connected_child("handing_over::stall");
        let child = Mutex::new(child);
        let (one, other) = WinStream::pair().unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| stream.send_handle(&one));
            listener.accept().unwrap();
            kill(&mut child.lock().unwrap());
            let error = sending.join().unwrap().unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe
                ),
                "{error}"
            );
        });
        // No copy of the handle is left: the peer sees the end.
        drop(one);
        assert_is_closed(&other);
    });
}

#[test]
fn a_sender_that_is_gone_gives_nothing() {
    within(LIMIT, || {
        let (client, server) = connection();
        drop(client);
        assert_fails(server.recv_handle(), ErrorKind::UnexpectedEof);
        // It has made its offer, and is gone when it's taken.
        let (client, server) = connection();
        offer(&client, 1, std::process::id(), number(&client));
        drop(client);
        assert_fails(server.recv_handle(), ErrorKind::BrokenPipe);
        // A process that has ended is none to take a handle from.
        let (mut child, _listener, stream) = connected_child("handing_over::offer");
        stream.peek(&mut [0]).unwrap();
        kill(&mut child);
        assert_fails(stream.recv_handle(), ErrorKind::BrokenPipe);
    });
}

/// After an offer that isn't answered, reads fail, as they could take a late answer for data. Once the
/// end is there, no answer can come.
#[test]
fn the_end_is_not_hidden_by_an_offer_that_was_never_answered_or_was_declined() {
    within(LIMIT, || {
        let assert_ends = |stream: &WinStream| {
            let mut stream = stream;
            for _ in 0..2 {
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
                assert_eq!(stream.peek(&mut [0]).unwrap(), 0);
            }
        };
        for (sender, receiver) in connections() {
            let (one, other) = WinStream::pair().unwrap();
            // One is declined, several were never answered, and one waits when the end comes.
            thread::scope(|scope| {
                let sending = scope.spawn(|| sender.send_handle(&one));
                decline(&receiver);
                assert_fails(sending.join().unwrap(), ErrorKind::PermissionDenied);
            });
            sender.set_read_timeout(SHORT).unwrap();
            for _ in 0..3 {
                assert_fails(sender.send_handle(&one), ErrorKind::TimedOut);
                assert_fails((&sender).read(&mut [0]), ErrorKind::ResourceBusy);
            }
            sender.set_read_timeout(None).unwrap();
            thread::scope(|scope| {
                let sending = scope.spawn(|| sender.send_handle(&one));
                for _ in 0..3 {
                    let id = read_offer(&receiver);
                    assert_eq!(read_message(&receiver), (WITHDRAWN, id));
                }
                read_offer(&receiver);
                receiver.shutdown(Shutdown::Write).unwrap();
                assert_fails(sending.join().unwrap(), ErrorKind::UnexpectedEof);
            });
            assert_ends(&sender);
            drop(one);
            assert_is_closed(&other);
        }
        // The same for one that waits for handles, and gets only an offer.
        for (sender, receiver) in connections() {
            offer(&sender, 1, std::process::id(), number(&sender));
            sender.shutdown(Shutdown::Write).unwrap();
            assert_fails(receiver.recv_handle(), ErrorKind::InvalidData);
            assert_ends(&receiver);
        }
    });
}

#[test]
fn what_is_no_handle_of_the_senders_is_invalid_data() {
    within(LIMIT, || {
        let (mut child, _listener, stream) = connected_child("handing_over::dead");
        for _ in 0..5 {
            let error = assert_fails(stream.recv_handle(), ErrorKind::InvalidData);
            // The operating system's code is there, too.
            assert!(error.to_string().contains("(os error 6)"), "{error}");
        }
        assert!(child.wait().unwrap().success());
        // Null isn't even offered.
        let (client, _server) = connection();
        // SAFETY: null is no handle, and isn't used as one.
        let null = unsafe { BorrowedHandle::borrow_raw(ptr::null_mut()) };
        assert_fails(client.send_handle(&null), ErrorKind::InvalidInput);
    });
}

#[test]
fn what_is_no_offer_and_no_answer_is_invalid_data_and_shuts_the_stream_down() {
    within(LIMIT, || {
        for what in [
            b"?".as_slice(),
            b"something else altogether, and long enough",
            &message(0, 1, 1, 4),
            &message(9, 1, 1, 4)[..8],
            // Steps that have no place here.
            &message(TAKEN, 1, 0, 0),
            &message(GIVEN, 1, 0, 0),
            // Cut off.
            &message(OFFERED, 1, 1, 4)[..20],
        ] {
            for receives in [true, false] {
                let (mut client, server) = connection();
                server.set_read_timeout(SHORT).unwrap();
                client.write_all(what).unwrap();
                let done = match receives {
                    true => server.recv_handle().map(drop),
                    false => server.send_handle(&client),
                };
                assert_fails(done, ErrorKind::InvalidData);
                assert_eq!((&server).read(&mut [0]).unwrap(), 0);
                assert_fails((&server).write(b"x"), ErrorKind::BrokenPipe);
                // The peer sees the end, after what was sent before.
                client.read_to_end(&mut Vec::new()).unwrap();
            }
        }
        // Both send.
        let (client, server) = connection();
        thread::scope(|scope| {
            let sending = scope.spawn(|| client.send_handle(&server));
            assert_fails(server.send_handle(&client), ErrorKind::InvalidData);
            assert_fails(sending.join().unwrap(), ErrorKind::InvalidData);
        });
    });
}

#[test]
fn an_offer_that_timed_out_is_withdrawn_and_a_later_one_arrives() {
    within(LIMIT, || {
        let (client, server) = connection();
        client.set_read_timeout(SHORT).unwrap();
        for _ in 0..3 {
            let (one, other) = WinStream::pair().unwrap();
            assert_fails(client.send_handle(&one), ErrorKind::TimedOut);
            // Nothing keeps it open.
            drop(one);
            assert_is_closed(&other);
        }
        // The late answers would be taken for data.
        assert_fails((&client).read(&mut [0]), ErrorKind::ResourceBusy);
        assert_fails(client.peek(&mut [0]), ErrorKind::ResourceBusy);
        // The receiver is late: there's nothing for it any more.
        server.set_read_timeout(SHORT).unwrap();
        assert_fails(server.recv_handle(), ErrorKind::TimedOut);

        client.set_read_timeout(None).unwrap();
        server.set_read_timeout(None).unwrap();
        assert_hands_over(&client, &server);
        assert_carries_data(&client, &server);
    });
}

/// The number of a handle that is closed is soon another's.
#[test]
fn a_stream_that_becomes_a_handle_after_a_time_out_leaves_no_offer_to_mistake() {
    within(LIMIT, || {
        for is_closed in [true, false] {
            let (client, server) = connection();
            client.set_read_timeout(SHORT).unwrap();
            let (one, other) = WinStream::pair().unwrap();
            client.send_handle(&one).unwrap_err();
            let handle = OwnedHandle::from(client);
            let _strangers: Vec<_> = (0..50).map(|_| WinStream::pair().unwrap()).collect();
            let kind = match is_closed {
                true => {
                    drop(handle);
                    ErrorKind::BrokenPipe
                }
                false => {
                    server.set_read_timeout(SHORT).unwrap();
                    ErrorKind::TimedOut
                }
            };
            assert_fails(server.recv_handle(), kind);
            drop(one);
            assert_is_closed(&other);
        }
        // And between two processes.
        let (mut child, listener, stream) = connected_child("handing_over::stop-waiting");
        listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        assert_fails(stream.recv_handle(), ErrorKind::TimedOut);
        kill(&mut child);
    });
}

#[test]
fn a_refused_offer_leaves_no_handle_behind_and_the_stream_usable() {
    within(LIMIT, || {
        let (sender, receiver) = connection();
        for _ in 0..50 {
            let (one, other) = WinStream::pair().unwrap();
            thread::scope(|scope| {
                let sending = scope.spawn(|| sender.send_handle(&one));
                decline(&receiver);
                assert_fails(sending.join().unwrap(), ErrorKind::PermissionDenied);
            });
            drop(one);
            assert_is_closed(&other);
            assert_carries_data(&sender, &receiver);
        }
    });
}

#[test]
fn an_offer_that_cant_be_sent_leaves_no_handle_behind_and_the_stream_usable() {
    within(LIMIT, || {
        let (sender, mut receiver) = connection();
        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        for len in [4096, 1] {
            while let Ok(count) = (&sender).write(&[0; 4096][..len]) {
                sent += count;
            }
        }
        let (one, other) = WinStream::pair().unwrap();
        for _ in 0..50 {
            assert_fails(sender.send_handle(&one), ErrorKind::WouldBlock);
        }
        drop(one);
        assert_is_closed(&other);
        receiver.read_exact(&mut vec![0; sent]).unwrap();
        assert_carries_data(&sender, &receiver);
    });
}

#[test]
fn answers_to_offers_that_were_never_made_end_the_wait_for_ones_own() {
    within(LIMIT, || {
        let (sender, receiver) = connection();
        let (one, other) = WinStream::pair().unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| sender.send_handle(&one));
            let id = read_offer(&receiver);
            answer(&receiver, TAKEN, id + 1);
            assert_fails(sending.join().unwrap(), ErrorKind::InvalidData);
        });
        drop(one);
        assert_is_closed(&other);
    });
}

#[test]
fn late_answers_dont_make_a_sender_wait_longer() {
    within(LIMIT, || {
        let (sender, receiver) = connection();
        let timeout = Duration::from_millis(300);
        sender
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let mut late = Vec::new();
        for _ in 0..4 {
            assert_fails(sender.send_handle(&sender), ErrorKind::TimedOut);
            let id = read_offer(&receiver);
            assert_eq!(read_message(&receiver), (WITHDRAWN, id));
            late.push(id);
        }
        sender.set_read_timeout(Some(timeout)).unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| sender.send_handle(&sender));
            let id = read_offer(&receiver);
            // One at a time, each within the time-out, all together not.
            for id in late.into_iter().chain([id]) {
                thread::sleep(timeout * 2 / 3);
                answer(&receiver, TAKEN, id);
            }
            assert_fails(sending.join().unwrap(), ErrorKind::TimedOut);
        });
    });
}

#[test]
fn a_receiver_that_times_out_in_the_middle_goes_on_when_called_again() {
    within(LIMIT, || {
        let (mut sender, receiver) = connection();
        let (offerer, offered) = connection();
        let (one, other) = WinStream::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        let again = || assert_fails(receiver.recv_handle(), ErrorKind::WouldBlock);
        again();
        thread::scope(|scope| {
            let sending = scope.spawn(|| offerer.send_handle(&one).unwrap());
            let id = read_offer(&offered);
            offer(&sender, id, std::process::id(), 0);
            again();
            // What comes now would be taken for data.
            assert_fails((&receiver).read(&mut [0]), ErrorKind::ResourceBusy);
            again();
            assert_eq!(read_message(&sender), (TAKEN, id));
            answer(&offered, TAKEN, id);
            assert_eq!(read_message(&offered), (GIVEN, id));
            answer(&sender, GIVEN, id);
            sending.join().unwrap();
        });
        let taken = receiver.recv_handle().unwrap();
        drop(one);
        assert_is_the_only_end(taken, &other);
        sender.write_all(b"data").unwrap();
        (&receiver).read_exact(&mut [0; 4]).unwrap();
    });
}

#[test]
fn a_handle_goes_through_a_pipe_smaller_than_its_messages_or_the_stream_ends() {
    within(LIMIT, || {
        let mut options = ListenOptions::new();
        options.inbound_buffer(8).outbound_buffer(8);
        let (_listener, client, server) = connect_by(&options);
        assert_hands_over(&client, &server);

        // Nobody reads, so only a part of the offer goes out.
        let (_listener, client, server) = connect_by(&options);
        client.set_write_timeout(SHORT).unwrap();
        assert_fails(client.send_handle(&client), ErrorKind::BrokenPipe);
        assert_fails((&client).write(b"x"), ErrorKind::BrokenPipe);
        assert_fails(server.recv_handle(), ErrorKind::UnexpectedEof);
    });
}
