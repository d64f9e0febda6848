//! Which bytes of a write go next, and what the write reports.
//!
//! A write goes out in chunks of at most the pipe's quota. A pending chunk of that size has
//! delivered nothing. So a chunk that was refused, timed out or was cancelled can be reported as
//! not sent, and the count of the bytes before it is exact.

use std::ops::Range;

/// A refused chunk is halved, down to this size.
const SHORTEST_PART: usize = 4 << 10;

/// One call that writes.
#[derive(Debug)]
pub(crate) struct Sending {
    total: usize,
    sent: usize,
    /// The most bytes that are sent at once.
    longest: usize,
    /// Whether a chunk was refused, so that the next one is only part of it.
    is_part: bool,
    is_over: bool,
}

impl Sending {
    /// Begins a call that writes `total` bytes, at most `chunk` at once.
    pub(crate) fn new(total: usize, chunk: usize) -> Sending {
        Sending {
            total,
            sent: 0,
            longest: chunk,
            is_part: false,
            is_over: false,
        }
    }

    /// The bytes to send next, or `None` if the call is over.
    pub(crate) fn next(&self) -> Option<Range<usize>> {
        let left = self.total - self.sent;
        if self.is_over || left == 0 {
            return None;
        }
        Some(self.sent..self.sent + left.min(self.longest))
    }

    /// Records that the first `count` of those bytes were sent. A count of zero means that there
    /// was no room in the pipe.
    pub(crate) fn sent(&mut self, count: usize) {
        self.sent += count;
        // After part of a chunk, the rest would be a message of its own, and another call's bytes
        // might come between.
        self.is_over |= self.is_part || count == 0;
    }

    /// Records that there was no room for those bytes. There may be room for some of them.
    pub(crate) fn refused(&mut self) {
        let refused = self.longest.min(self.total - self.sent);
        self.is_over |= refused <= SHORTEST_PART;
        self.longest = refused / 2;
        self.is_part = true;
    }

    /// Records that nothing more can be sent.
    pub(crate) fn stop(&mut self) {
        self.is_over = true;
    }

    /// Returns the number of bytes that the call reports as sent. `None` means that it reports the
    /// error that ended it, or that there was no room.
    pub(crate) fn report(&self) -> Option<usize> {
        // Bytes that were sent count. The next call meets the same obstacle.
        (self.sent > 0 || self.total == 0).then_some(self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_at_once_and_reported() {
        let sending = Sending::new(0, 10);
        assert_eq!(sending.next(), None);
        assert_eq!(sending.report(), Some(0));
    }

    #[test]
    fn a_long_write_goes_in_chunks() {
        let mut sending = Sending::new(25, 10);
        for chunk in [0..10, 10..20, 20..25] {
            assert_eq!(sending.next(), Some(chunk.clone()));
            sending.sent(chunk.len());
        }
        assert_eq!(sending.next(), None);
        assert_eq!(sending.report(), Some(25));
    }

    #[test]
    fn a_refused_chunk_is_halved_until_part_of_it_fits_which_ends_the_call() {
        let mut sending = Sending::new(100_000, 65_536);
        for len in [65_536, 32_768, 16_384] {
            assert_eq!(sending.next(), Some(0..len));
            sending.refused();
        }
        assert_eq!(sending.next(), Some(0..8192));
        sending.sent(8192);
        assert_eq!(sending.next(), None);
        assert_eq!(sending.report(), Some(8192));
    }

    #[test]
    fn a_chunk_that_is_refused_to_the_last_part_is_no_room() {
        let mut sending = Sending::new(65_536, 65_536);
        let mut tries = Vec::new();
        while let Some(part) = sending.next() {
            tries.push(part.len());
            sending.refused();
        }
        assert_eq!(tries, [65_536, 32_768, 16_384, 8192, 4096]);
        assert_eq!(sending.report(), None);
        // A short chunk isn't halved.
        let mut sending = Sending::new(100, 65_536);
        sending.refused();
        assert_eq!(sending.next(), None);
        assert_eq!(sending.report(), None);
    }

    #[test]
    fn what_was_sent_before_an_obstacle_counts() {
        let obstacles: [fn(&mut Sending); 2] = [Sending::stop, |sending| sending.sent(0)];
        for obstacle in obstacles {
            let mut sending = Sending::new(30, 10);
            sending.sent(10);
            obstacle(&mut sending);
            assert_eq!(sending.next(), None);
            assert_eq!(sending.report(), Some(10));

            let mut sending = Sending::new(30, 10);
            obstacle(&mut sending);
            assert_eq!(sending.next(), None);
            assert_eq!(sending.report(), None);
        }
    }

    #[test]
    fn the_tail_of_a_write_is_halved_from_its_own_length() {
        let mut sending = Sending::new(65_536 + 10_000, 65_536);
        sending.sent(65_536);
        sending.refused();
        assert_eq!(sending.next(), Some(65_536..65_536 + 5000));
        sending.sent(5000);
        assert_eq!(sending.report(), Some(70_536));
    }
}
