//! `Sid` and `Integrity`: what Windows knows users, groups and levels of trust by.
//!
//! Pure `std`, no system call, so it's tested on every platform.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::input::{invalid, quote};

/// A security identifier: what Windows knows a user, a group or a computer by.
///
/// It's read and printed in its usual form, `S-1-5-21-…-1001`.
///
/// # Examples
/// ```
/// use winpipe::Sid;
///
/// let system: Sid = "S-1-5-18".parse()?;
/// assert_eq!(system, Sid::LOCAL_SYSTEM);
/// assert_eq!(system.to_string(), "S-1-5-18");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid {
    /// 48 bits.
    authority: u64,
    count: u8,
    /// The first `count`; the others are 0.
    parts: [u32; Sid::LONGEST],
}

impl Sid {
    /// The most parts that follow the authority.
    const LONGEST: usize = 15;

    /// Everybody, but for anonymous users.
    pub const EVERYONE: Sid = Sid::well_known(1, &[0]);
    /// Everybody who has logged on by name.
    pub const AUTHENTICATED_USERS: Sid = Sid::well_known(5, &[11]);
    /// The operating system, and services that run as it.
    pub const LOCAL_SYSTEM: Sid = Sid::well_known(5, &[18]);
    /// This computer's administrators, who own what elevated processes make.
    pub const ADMINISTRATORS: Sid = Sid::well_known(5, &[32, 544]);
    /// Apps in containers, of all users.
    pub(crate) const ALL_APP_PACKAGES: Sid = Sid::well_known(15, &[2, 1]);
    /// Everybody who has logged on over the network.
    pub(crate) const NETWORK: Sid = Sid::well_known(5, &[2]);
    /// The owner of the very object whose access rights name it. Where they do, the owner has no right
    /// but those that they give.
    pub(crate) const OWNER_RIGHTS: Sid = Sid::well_known(3, &[4]);

    const fn well_known(authority: u64, known: &[u32]) -> Sid {
        let mut parts = [0; Sid::LONGEST];
        let mut at = 0;
        while at < known.len() {
            parts[at] = known[at];
            at += 1;
        }
        Sid {
            authority,
            count: known.len() as u8,
            parts,
        }
    }

    /// Reads the binary form.
    pub(crate) fn from_bytes(bytes: &[u8]) -> io::Result<Sid> {
        let malformed = || invalid("the system gave a malformed security identifier".into());
        let (&[1, count, a, b, c, d, e, f], rest) =
            bytes.split_first_chunk().ok_or_else(malformed)?
        else {
            return Err(malformed());
        };
        if usize::from(count) > Sid::LONGEST || rest.len() < usize::from(count) * 4 {
            return Err(malformed());
        }
        let mut parts = [0; Sid::LONGEST];
        for (part, bytes) in parts
            .iter_mut()
            .zip(rest.chunks_exact(4))
            .take(count.into())
        {
            *part = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let authority = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        Ok(Sid {
            authority,
            count,
            parts,
        })
    }

    /// The binary form, as the calls take it.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![1, self.count];
        bytes.extend_from_slice(&self.authority.to_be_bytes()[2..]);
        self.parts()
            .iter()
            .for_each(|part| bytes.extend_from_slice(&part.to_le_bytes()));
        bytes
    }

    /// The level that this stands for, if it's an integrity level's.
    pub(crate) fn integrity(&self) -> Option<Integrity> {
        match (self.authority, self.parts()) {
            (16, &[level]) => Some(Integrity(level)),
            _ => None,
        }
    }

    fn parts(&self) -> &[u32] {
        &self.parts[..self.count.into()]
    }
}

/// # Errors
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for anything but `S-1-`, an authority below 2^48,
/// in decimal or as `0x…`, and 1 to 15 parts below 2^32.
impl FromStr for Sid {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Sid> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let parse = || {
            let (start, rest) = text.split_at_checked(4)?;
            if !start.eq_ignore_ascii_case("S-1-") {
                return None;
            }
            let mut fields = rest.split('-');
            let first = fields.next()?;
            let authority = match first.strip_prefix("0x").or(first.strip_prefix("0X")) {
                Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    u64::from_str_radix(hex, 16).ok()?
                }
                _ if digits(first) => first.parse().ok()?,
                _ => return None,
            };
            let mut sid = Sid {
                authority,
                count: 0,
                parts: [0; Sid::LONGEST],
            };
            for field in fields {
                let part = sid.parts.get_mut(usize::from(sid.count))?;
                *part = if digits(field) {
                    field.parse().ok()?
                } else {
                    return None;
                };
                sid.count += 1;
            }
            (authority < 1 << 48 && sid.count > 0).then_some(sid)
        };
        parse().ok_or_else(|| {
            invalid(format!(
                "{} is no security identifier: one looks like S-1-5-21-1-2-3-1001",
                quote(text)
            ))
        })
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As Windows prints it: in hexadecimal where it's more than 32 bits.
        match self.authority >> 32 {
            0 => write!(f, "S-1-{}", self.authority)?,
            _ => write!(f, "S-1-{:#014x}", self.authority)?,
        }
        self.parts()
            .iter()
            .try_for_each(|part| write!(f, "-{part}"))
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How far Windows trusts a process, apart from its user.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Integrity(u32);

impl Integrity {
    /// Not at all.
    pub const UNTRUSTED: Integrity = Integrity(0x0000);
    /// As a web page's process.
    pub const LOW: Integrity = Integrity(0x1000);
    /// As a program that the user started.
    pub const MEDIUM: Integrity = Integrity(0x2000);
    /// As a program that the user started as administrator.
    pub const HIGH: Integrity = Integrity(0x3000);
    /// As the system.
    pub const SYSTEM: Integrity = Integrity(0x4000);

    /// The level as a number, the last part of its security identifier.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(winpipe::Integrity::MEDIUM.level(), 0x2000);
    /// ```
    pub fn level(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Integrity({:#06x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sid_is_printed_as_it_is_read() {
        for text in [
            "S-1-0-0",
            "S-1-5-18",
            "S-1-5-21-4294967295-0-1-500",
            "S-1-0x0123456789ab-7",
            "S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15",
        ] {
            let sid: Sid = text.parse().unwrap();
            assert_eq!(sid.to_string(), text);
            assert_eq!(Sid::from_bytes(&sid.to_bytes()).unwrap(), sid);
        }
        assert_eq!("s-1-0x5-18".parse::<Sid>().unwrap(), Sid::LOCAL_SYSTEM);
    }

    #[test]
    fn what_is_no_sid_is_invalid_input() {
        for text in [
            "",
            "S",
            "S-1",
            "S-1-5",
            "S-2-5-18",
            "X-1-5-18",
            "S-1-5-",
            "S-1-5--18",
            "S-1-5-+18",
            "S-1-5-18 ",
            "S-1-5-4294967296",
            "S-1-281474976710656-1",
            "S-1-0x-1",
            "S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16",
            "BA",
            "é-1-5",
        ] {
            let error = text.parse::<Sid>().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
        let error = "S-1-5-".repeat(1 << 18).parse::<Sid>().unwrap_err();
        assert!(error.to_string().chars().count() < 300, "{error}");
        for bytes in [
            &[][..],
            &[1],
            &[2, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0],
            &[1, 16],
            &[1; 9],
        ] {
            Sid::from_bytes(bytes).unwrap_err();
        }
    }

    #[test]
    fn an_integrity_level_is_an_identifier_of_its_own_kind() {
        let level = |text: &str| text.parse::<Sid>().unwrap().integrity();
        assert_eq!(level("S-1-16-4096"), Some(Integrity::LOW));
        assert_eq!(level("S-1-16-8448").map(Integrity::level), Some(0x2100));
        assert_eq!(level("S-1-5-4096"), None);
        assert_eq!(level("S-1-16-4096-1"), None);
    }

    proptest! {
        #[test]
        fn any_sid_survives_its_text_and_its_bytes(
            authority in 0_u64..1 << 48,
            parts in proptest::collection::vec(any::<u32>(), 1..=15),
        ) {
            let sid = Sid::well_known(authority, &parts);
            prop_assert_eq!(sid.to_string().parse::<Sid>().unwrap(), sid);
            prop_assert_eq!(Sid::from_bytes(&sid.to_bytes()).unwrap(), sid);
        }

        #[test]
        fn any_text_is_a_sid_or_refused(text in r"(?i:S-)?1?-?[0-9xa-f-]{0,40}") {
            if let Ok(sid) = text.parse::<Sid>() {
                prop_assert_eq!(sid.to_string().parse::<Sid>().unwrap(), sid);
            }
        }
    }
}
