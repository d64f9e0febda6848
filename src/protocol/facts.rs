//! What is known about one end of a pipe before it's read or written, and how that decides what a
//! read has found.

/// What is known about one end. It doesn't change while the end is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    /// The most bytes that are written at once: no more than the pipe's quota. A pending write of
    /// at most that size has delivered nothing yet, so it can be cancelled and reported as not
    /// sent.
    pub(crate) chunk: u32,
    /// Whether the pipe keeps message boundaries, so that an empty message can mark the end.
    pub(crate) has_messages: bool,
    /// Whether reads of this end stop at message boundaries.
    pub(crate) reads_by_message: bool,
    /// Whether this is the server's end.
    pub(crate) is_server: bool,
}

/// The result of a completed read of zero bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// The peer has marked the end.
    End,
    /// Data, or nothing any more: check again.
    Perhaps,
}

impl Facts {
    /// The most bytes that one write passes to the kernel, which copies them, however large the
    /// quota is.
    const LONGEST_CHUNK: u32 = 1 << 20;

    /// The facts of a client's end that the server has disconnected. Nothing more can be known
    /// about it.
    pub(crate) const DISCONNECTED: Facts = Facts {
        chunk: 1,
        has_messages: true,
        reads_by_message: true,
        is_server: false,
    };

    /// The facts of an end for which the kernel queues up to `quota` bytes of writes. If the pipe
    /// keeps message boundaries, the end is read by message.
    pub(crate) fn new(quota: usize, has_messages: bool, is_server: bool) -> Facts {
        Facts {
            // One byte is never delivered in part, so this works even without any quota.
            chunk: u32::try_from(quota)
                .unwrap_or(u32::MAX)
                .clamp(1, Facts::LONGEST_CHUNK),
            has_messages,
            reads_by_message: has_messages,
            is_server,
        }
    }

    /// Whether other reads may be issued while a read of zero bytes waits. If an end with messages
    /// is read by byte, that read can't tell data from the mark of the end. Then no other read may
    /// be issued until the caller has peeked.
    pub(crate) fn waits_beside_others(&self) -> bool {
        self.reads_by_message == self.has_messages
    }

    /// What a completed read of zero bytes has found. If no other read could be issued meanwhile,
    /// the caller has peeked since and found no data. `more` says whether there was more than
    /// fitted into the buffer.
    pub(crate) fn found(&self, more: bool) -> Found {
        match self.has_messages && !more {
            true => Found::End,
            false => Found::Perhaps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_no_more_than_the_quota_and_never_nothing() {
        for (quota, chunk) in [
            (0, 1),
            (1, 1),
            (65_536, 65_536),
            (1 << 20, 1 << 20),
            (usize::MAX, 1 << 20),
        ] {
            assert_eq!(Facts::new(quota, true, true).chunk, chunk);
        }
    }

    #[test]
    fn an_empty_read_that_took_nothing_is_the_end_only_where_there_are_messages() {
        let message = Facts::new(1, true, false);
        assert_eq!(message.found(false), Found::End);
        assert_eq!(message.found(true), Found::Perhaps);
        let byte = Facts::new(1, false, false);
        assert_eq!(byte.found(false), Found::Perhaps);
        assert_eq!(byte.found(true), Found::Perhaps);
    }

    #[test]
    fn only_an_end_whose_messages_are_read_by_byte_waits_alone() {
        let mut facts = Facts::new(1, true, false);
        assert!(facts.waits_beside_others());
        facts.reads_by_message = false;
        assert!(!facts.waits_beside_others());
        assert!(Facts::new(1, false, false).waits_beside_others());
    }
}
