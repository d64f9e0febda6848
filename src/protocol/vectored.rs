//! How several buffers become one message, and how one message fills several buffers.
//!
//! A pipe takes one buffer at a time. So the parts of a vectored call are copied through a scratch
//! buffer, which each thread allocates at its first such call and keeps. A long part is sent
//! without a copy.

use std::cell::Cell;
use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;

/// The most that one vectored read returns, and that one message of several parts holds.
pub(crate) const SCRATCH: usize = 64 << 10;

thread_local! {
    static IDLE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends this thread's scratch buffer. If it's already lent, or if the thread is ending, a new one
/// is allocated.
pub(crate) fn with_scratch<T>(call: impl FnOnce(&mut [u8]) -> T) -> T {
    let idle = IDLE.try_with(Cell::take).ok().flatten();
    let mut scratch = idle.unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice());
    let result = call(&mut scratch);
    let _ = IDLE.try_with(|idle| idle.set(Some(scratch)));
    result
}

/// Returns how many bytes the buffers hold in all.
pub(crate) fn total<'a, T>(bufs: &'a [T]) -> usize
where
    T: std::ops::Deref<Target = [u8]> + 'a,
{
    bufs.iter()
        .map(|buf| buf.len())
        .fold(0, usize::saturating_add)
}

/// Passes to `send` the bytes in `range` of all buffers together, or the first of them if not all
/// can go at once.
pub(crate) fn gather<T>(
    bufs: &[IoSlice<'_>],
    range: Range<usize>,
    send: impl FnOnce(&[u8]) -> T,
) -> T {
    let room = range.len().min(SCRATCH);
    let mut skip = range.start;
    let mut parts = bufs.iter().filter_map(|buf| {
        let part = &buf[skip.min(buf.len())..];
        skip -= buf.len() - part.len();
        (!part.is_empty()).then_some(part)
    });
    let first = parts.next().unwrap_or_default();
    if first.len() >= room {
        return send(&first[..first.len().min(range.len())]);
    }
    with_scratch(|scratch| {
        let mut len = 0;
        for part in std::iter::once(first).chain(parts) {
            let part = &part[..part.len().min(room - len)];
            scratch[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        send(&scratch[..len])
    })
}

/// Lets `read` fill one buffer, and copies the number of bytes that it returns to the buffers, in
/// order.
pub(crate) fn scatter<E>(
    bufs: &mut [IoSliceMut<'_>],
    read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
) -> Result<usize, E> {
    let room = total(bufs).min(SCRATCH);
    with_scratch(|scratch| {
        let count = read(&mut scratch[..room])?;
        let mut rest = &scratch[..count];
        for buf in bufs {
            let (part, more) = rest.split_at(buf.len().min(rest.len()));
            buf[..part.len()].copy_from_slice(part);
            rest = more;
        }
        Ok(count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(parts: &[&[u8]], range: Range<usize>) -> Vec<u8> {
        let bufs: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        gather(&bufs, range, <[u8]>::to_vec)
    }

    #[test]
    fn any_range_of_parts_is_one_message() {
        let parts: [&[u8]; 5] = [b"ab", b"", b"cde", b"f", b""];
        assert_eq!(total(&parts), 6);
        for start in 0..=6 {
            for end in start..=6 {
                assert_eq!(gathered(&parts, start..end), b"abcdef"[start..end]);
            }
        }
        assert_eq!(gathered(&[], 0..0), b"");
    }

    #[test]
    fn a_part_that_fills_a_message_is_not_copied() {
        let long = vec![7; 3 * SCRATCH];
        let bufs = [IoSlice::new(b"x"), IoSlice::new(&long)];
        let at = gather(&bufs, 1..1 + 2 * SCRATCH, |bytes| {
            assert_eq!(bytes.len(), 2 * SCRATCH);
            bytes.as_ptr()
        });
        assert_eq!(at, long.as_ptr());
        // What doesn't fit is left for the next message.
        assert_eq!(gather(&bufs, 0..2 * SCRATCH, <[u8]>::len), SCRATCH);
    }

    #[test]
    fn a_message_fills_the_buffers_in_their_order() {
        let (mut a, mut b, mut c) = ([0; 2], [0; 0], [0; 4]);
        let mut bufs = [&mut a[..], &mut b[..], &mut c[..]].map(IoSliceMut::new);
        let read = scatter(&mut bufs, |bytes| {
            assert_eq!(bytes.len(), 6);
            bytes[..3].copy_from_slice(b"xyz");
            Ok::<_, ()>(3)
        });
        assert_eq!((read, &a, &c), (Ok(3), b"xy", b"z\0\0\0"));
    }

    #[test]
    fn a_call_within_a_call_has_a_buffer_of_its_own() {
        let parts: [&[u8]; 2] = [b"ab", b"cd"];
        let bufs = parts.map(IoSlice::new);
        gather(&bufs, 0..4, |outer| {
            assert_eq!(gathered(&[b"x", b"y"], 0..2), b"xy");
            assert_eq!(outer, b"abcd");
        });
    }
}
