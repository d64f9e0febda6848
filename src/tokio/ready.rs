//! `Interest` and `Ready`: tokio's types of these names need its feature `net`.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};

/// What a task waits for: `tokio::io::Interest`.
///
/// # Examples
/// ```
/// use winpipe::tokio::Interest;
///
/// let both = Interest::READABLE | Interest::WRITABLE;
/// assert!(both.is_readable() && both.is_writable());
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Interest(u8);

impl Interest {
    /// There is something to read, or the end.
    pub const READABLE: Interest = Interest(1);
    /// A write would take at least one byte, or fail.
    pub const WRITABLE: Interest = Interest(2);

    /// Whether it includes being readable.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether it includes being writable.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & 2 != 0
    }

    /// Returns what either of the two includes.
    #[must_use]
    pub const fn add(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        self.add(other)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Interest) {
        *self = self.add(other);
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.is_readable(), self.is_writable()) {
            (true, true) => "READABLE | WRITABLE",
            (true, false) => "READABLE",
            (false, _) => "WRITABLE",
        })
    }
}

/// What a stream is ready for: `tokio::io::Ready`.
///
/// # Examples
/// ```
/// use winpipe::tokio::Ready;
///
/// let ready = Ready::READABLE | Ready::READ_CLOSED;
/// assert!(ready.is_readable() && ready.is_read_closed() && !ready.is_writable());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ready(u8);

impl Ready {
    /// Ready for nothing.
    pub const EMPTY: Ready = Ready(0);
    /// There is something to read, or the end.
    pub const READABLE: Ready = Ready(1);
    /// A write would take at least one byte, or fail.
    pub const WRITABLE: Ready = Ready(2);
    /// The peer writes no more.
    pub const READ_CLOSED: Ready = Ready(4);
    /// The peer reads no more, or this end writes no more.
    pub const WRITE_CLOSED: Ready = Ready(8);
    /// All of these.
    pub const ALL: Ready = Ready(15);

    /// Whether it's ready for nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Ready::EMPTY
    }

    /// Whether there is something to read, or the end.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self.0 & (Ready::READABLE.0 | Ready::READ_CLOSED.0) != 0
    }

    /// Whether a write would take at least one byte, or fail.
    #[must_use]
    pub fn is_writable(self) -> bool {
        self.0 & (Ready::WRITABLE.0 | Ready::WRITE_CLOSED.0) != 0
    }

    /// Whether the peer writes no more. What it has written may still be there to be read.
    #[must_use]
    pub fn is_read_closed(self) -> bool {
        self.0 & Ready::READ_CLOSED.0 != 0
    }

    /// Whether the peer reads no more, or this end writes no more.
    #[must_use]
    pub fn is_write_closed(self) -> bool {
        self.0 & Ready::WRITE_CLOSED.0 != 0
    }
}

impl BitOr for Ready {
    type Output = Ready;

    fn bitor(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }
}

impl BitOrAssign for Ready {
    fn bitor_assign(&mut self, other: Ready) {
        self.0 |= other.0;
    }
}

impl BitAnd for Ready {
    type Output = Ready;

    fn bitand(self, other: Ready) -> Ready {
        Ready(self.0 & other.0)
    }
}

impl Sub for Ready {
    type Output = Ready;

    fn sub(self, other: Ready) -> Ready {
        Ready(self.0 & !other.0)
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("is_readable", &self.is_readable())
            .field("is_writable", &self.is_writable())
            .field("is_read_closed", &self.is_read_closed())
            .field("is_write_closed", &self.is_write_closed())
            .finish()
    }
}
