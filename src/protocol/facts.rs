//! What there is to know of one end of a pipe before it's read or written, and what that makes of a
//! read.

/// What is known of one end. It doesn't change while the end is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    /// The most that is written at once: no more than the pipe's quota. A pending write of that size
    /// or less has delivered nothing yet, so one that is cancelled can be reported as such.
    pub(crate) chunk: usize,
    /// Whether the pipe keeps messages apart, so that an empty one can mark the end.
    pub(crate) has_messages: bool,
    /// Whether reads of this end stop where messages do.
    pub(crate) reads_by_message: bool,
    /// Whether this is the server's end.
    pub(crate) is_server: bool,
}

/// What a read of no bytes says when it's over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// The peer has marked the end.
    End,
    /// Data, or nothing any more: look again.
    Perhaps,
}

impl Facts {
    /// The most that one write hands to the kernel, which copies it, however large the quota.
    const LONGEST_CHUNK: usize = 1 << 20;

    /// Those of a client's end whose server has disconnected it, of which nothing more can be known.
    pub(crate) const DISCONNECTED: Facts = Facts {
        chunk: 1,
        has_messages: true,
        reads_by_message: true,
        is_server: false,
    };

    /// Those of an end whose writes the kernel queues up to `quota` bytes of. One that keeps messages
    /// is read by message.
    pub(crate) fn new(quota: usize, has_messages: bool, is_server: bool) -> Facts {
        Facts {
            // One byte is never partly delivered, so it does where there is no quota at all.
            chunk: quota.clamp(1, Facts::LONGEST_CHUNK),
            has_messages,
            reads_by_message: has_messages,
            is_server,
        }
    }

    /// Whether other reads may be issued while a read of no bytes waits. Where it's read by byte, data
    /// and the mark of the end look alike to it, so that it's alone until somebody has looked.
    pub(crate) fn waits_beside_others(&self) -> bool {
        self.reads_by_message == self.has_messages
    }

    /// What a read of no bytes found that is over, after a look showed no data if it was alone. `more`
    /// is whether more was there than fitted.
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
