//! `Sid` and `Integrity`: how Windows identifies users, groups and integrity levels.
//!
//! This uses only std and makes no system calls, so it's tested on every platform.

use std::cmp::Ordering;
use std::error::Error;
use std::fmt;
use std::io;
use std::str::FromStr;

use crate::input::quote;

/// A security identifier: how Windows identifies a user, a group or a service.
///
/// It's parsed and printed in its usual form, `S-1-5-21-…-1001`. SIDs are ordered by the numbers in
/// them.
///
/// # Examples
/// ```
/// use winpipe::Sid;
///
/// let system: Sid = "S-1-5-18".parse()?;
/// assert_eq!(system, Sid::LOCAL_SYSTEM);
/// assert_eq!(system.to_string(), "S-1-5-18");
/// # Ok::<(), winpipe::ParseSidError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sid {
    /// 48 bits.
    authority: u64,
    count: u8,
    /// The first `count` are used; the others are 0.
    parts: [u32; Sid::LONGEST],
}

impl Sid {
    /// The maximum number of parts after the authority.
    const LONGEST: usize = 15;

    /// All users, including guests, but not anonymous users.
    pub const EVERYONE: Sid = Sid::well_known(1, &[0]);
    /// Users that have logged on over the network, however they are connected now.
    pub const NETWORK: Sid = Sid::well_known(5, &[2]);
    /// Users that have logged on interactively: at the console or by remote desktop.
    pub const INTERACTIVE: Sid = Sid::well_known(5, &[4]);
    /// All services.
    pub const SERVICE: Sid = Sid::well_known(5, &[6]);
    /// Anonymous users. [`EVERYONE`](Self::EVERYONE) doesn't include them.
    pub const ANONYMOUS: Sid = Sid::well_known(5, &[7]);
    /// All users that have logged on with an account. Guests and anonymous users aren't included.
    pub const AUTHENTICATED_USERS: Sid = Sid::well_known(5, &[11]);
    /// Users that have logged on by remote desktop.
    pub const REMOTE_INTERACTIVE_LOGON: Sid = Sid::well_known(5, &[14]);
    /// The operating system, and services that run as `LocalSystem`.
    pub const LOCAL_SYSTEM: Sid = Sid::well_known(5, &[18]);
    /// Services that run as `LocalService`, which is anonymous on other computers.
    pub const LOCAL_SERVICE: Sid = Sid::well_known(5, &[19]);
    /// Services that run as `NetworkService`, which is the computer's account on other computers.
    pub const NETWORK_SERVICE: Sid = Sid::well_known(5, &[20]);
    /// This computer's administrators. Of their processes, only elevated ones count.
    pub const ADMINISTRATORS: Sid = Sid::well_known(5, &[32, 544]);
    /// This computer's users: all accounts of the computer and its domain, except guests.
    pub const USERS: Sid = Sid::well_known(5, &[32, 545]);
    /// This computer's guests.
    pub const GUESTS: Sid = Sid::well_known(5, &[32, 546]);
    /// All apps that run in an AppContainer, of all users; see
    /// [`Access::app_package`](crate::Access::app_package).
    pub const ALL_APP_PACKAGES: Sid = Sid::well_known(15, &[2, 1]);
    /// The owner of the object whose security descriptor contains this SID. Then the owner has only
    /// the rights that the descriptor grants.
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

    /// Creates a SID from its binary form, the `SID` structure of the Windows API.
    ///
    /// # Errors
    /// [`ParseSidError`] if the bytes aren't exactly one SID of revision 1 with 1 to 15 parts.
    ///
    /// # Examples
    /// ```
    /// use winpipe::Sid;
    ///
    /// let sid = Sid::from_bytes(&[1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0])?;
    /// assert_eq!(sid, Sid::LOCAL_SYSTEM);
    /// # Ok::<(), winpipe::ParseSidError>(())
    /// ```
    pub fn from_bytes(bytes: &[u8]) -> Result<Sid, ParseSidError> {
        match Sid::from_prefix(bytes) {
            Some((sid, [])) => Ok(sid),
            _ => Err(ParseSidError {
                message: format!(
                    "{} bytes aren't the binary form of a security identifier",
                    bytes.len()
                ),
            }),
        }
    }

    /// Reads a SID in binary form from the beginning of these bytes. Returns it and the rest.
    pub(crate) fn from_prefix(bytes: &[u8]) -> Option<(Sid, &[u8])> {
        let (&[1, count, a, b, c, d, e, f], rest) = bytes.split_first_chunk()? else {
            return None;
        };
        if count == 0 || usize::from(count) > Sid::LONGEST {
            return None;
        }
        let (of_parts, rest) = rest.split_at_checked(usize::from(count) * 4)?;
        let mut parts = [0; Sid::LONGEST];
        for (part, bytes) in parts.iter_mut().zip(of_parts.chunks_exact(4)) {
            *part = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let authority = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let sid = Sid {
            authority,
            count,
            parts,
        };
        Some((sid, rest))
    }

    /// Returns the binary form, the `SID` structure of the Windows API.
    ///
    /// # Examples
    /// ```
    /// use winpipe::Sid;
    ///
    /// let bytes = Sid::LOCAL_SYSTEM.to_bytes();
    /// assert_eq!(bytes, [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]);
    /// ```
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![1, self.count];
        bytes.extend_from_slice(&self.authority.to_be_bytes()[2..]);
        self.parts()
            .iter()
            .for_each(|part| bytes.extend_from_slice(&part.to_le_bytes()));
        bytes
    }

    /// Returns the integrity level, if this is the SID of one.
    pub(crate) fn integrity(&self) -> Option<Integrity> {
        match (self.authority, self.parts()) {
            (16, &[level]) => Some(Integrity(level)),
            _ => None,
        }
    }

    /// Whether this is the SID of an app package, or of all of them.
    pub(crate) fn is_app_package(&self) -> bool {
        self.authority == 15 && self.parts()[0] == 2
    }

    /// Whether this is one of the groups that are built into Windows.
    pub(crate) fn is_builtin_group(&self) -> bool {
        self.authority == 5 && self.parts()[0] == 32
    }

    fn parts(&self) -> &[u32] {
        &self.parts[..self.count.into()]
    }
}

impl PartialOrd for Sid {
    fn partial_cmp(&self, other: &Sid) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sid {
    fn cmp(&self, other: &Sid) -> Ordering {
        (self.authority, self.parts()).cmp(&(other.authority, other.parts()))
    }
}

/// Parses `S-1-`, an authority below 2^48, in decimal or as `0x…`, and 1 to 15 parts below 2^32.
///
/// The two-letter names of SDDL, such as `BA`, aren't accepted.
impl FromStr for Sid {
    type Err = ParseSidError;

    fn from_str(text: &str) -> Result<Sid, ParseSidError> {
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
        parse().ok_or_else(|| ParseSidError {
            message: format!(
                "{} isn't a security identifier: one looks like S-1-5-21-1-2-3-1001",
                quote(text)
            ),
        })
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As Windows prints it: in hexadecimal if it has more than 32 bits.
        match self.authority >> 32 {
            0 => write!(f, "S-1-{}", self.authority)?,
            _ => write!(f, "S-1-{:#014x}", self.authority)?,
        }
        self.parts()
            .iter()
            .try_for_each(|part| write!(f, "-{part}"))
    }
}

/// Prints the same as `Display`.
impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An error that is returned when parsing a [`Sid`].
///
/// It converts into an [`io::Error`] of kind [`InvalidInput`](io::ErrorKind::InvalidInput).
///
/// # Examples
/// ```
/// use winpipe::{Access, ListenOptions, Sid};
///
/// fn options(group: &str) -> std::io::Result<ListenOptions> {
///     let group: Sid = group.parse()?;
///     Ok(ListenOptions::new().access(Access::CURRENT_USER.or(group)).clone())
/// }
///
/// options("S-1-5-32-578")?;
/// let error = options("Operators").unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseSidError {
    message: String,
}

impl fmt::Display for ParseSidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ParseSidError {}

impl From<ParseSidError> for io::Error {
    fn from(error: ParseSidError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

/// An integrity level: how far Windows trusts a process, whichever user it runs as.
///
/// Levels are ordered. Any number is a level: Windows defines those below, and there can be others
/// between them.
///
/// # Examples
/// ```
/// use winpipe::Integrity;
///
/// assert!(Integrity::LOW < Integrity::MEDIUM);
/// assert!(Integrity::HIGH >= 0x3000);
/// assert_eq!(Integrity::from(0x2000), Integrity::MEDIUM);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Integrity(u32);

impl Integrity {
    /// Not trusted at all: anonymous users.
    pub const UNTRUSTED: Integrity = Integrity(0x0000);
    /// Sandboxed: a browser's processes, and apps in AppContainers.
    pub const LOW: Integrity = Integrity(0x1000);
    /// A user's ordinary programs.
    pub const MEDIUM: Integrity = Integrity(0x2000);
    /// Ordinary programs that can also control other programs' windows.
    pub const MEDIUM_PLUS: Integrity = Integrity(0x2100);
    /// Elevated programs: those run as administrator.
    pub const HIGH: Integrity = Integrity(0x3000);
    /// The operating system and its services.
    pub const SYSTEM: Integrity = Integrity(0x4000);

    /// Returns the level as a number, which is the last part of its SID, `S-1-16-LEVEL`.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(winpipe::Integrity::MEDIUM.level(), 0x2000);
    /// ```
    #[must_use]
    pub const fn level(self) -> u32 {
        self.0
    }
}

impl From<u32> for Integrity {
    fn from(level: u32) -> Integrity {
        Integrity(level)
    }
}

impl From<Integrity> for u32 {
    fn from(integrity: Integrity) -> u32 {
        integrity.0
    }
}

impl PartialEq<u32> for Integrity {
    fn eq(&self, level: &u32) -> bool {
        self.0 == *level
    }
}

impl PartialOrd<u32> for Integrity {
    fn partial_cmp(&self, level: &u32) -> Option<Ordering> {
        self.0.partial_cmp(level)
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
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
            let message = error.to_string();
            let error = io::Error::from(error);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), message);
        }
        let error = "S-1-5-".repeat(1 << 18).parse::<Sid>().unwrap_err();
        assert!(error.to_string().chars().count() < 300, "{error}");
        for bytes in [
            &[][..],
            &[1],
            &[2, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0],
            &[1, 16],
            &[1; 9],
            &[1, 0, 0, 0, 0, 0, 0, 5],
            // One byte more than a SID.
            &[1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0, 0],
        ] {
            let error = Sid::from_bytes(bytes).unwrap_err();
            let count = format!("{} bytes", bytes.len());
            assert!(error.to_string().contains(&count), "{error}");
        }
    }

    #[test]
    fn an_identifier_is_split_off_what_follows_it() {
        let mut bytes = Sid::ADMINISTRATORS.to_bytes();
        bytes.extend([7; 3]);
        assert_eq!(
            Sid::from_prefix(&bytes),
            Some((Sid::ADMINISTRATORS, &[7; 3][..]))
        );
    }

    #[test]
    fn identifiers_are_in_the_order_of_their_numbers() {
        let mut sids: Vec<Sid> = [
            "S-1-15-2-1",
            "S-1-5-32-545",
            "S-1-5-32-544",
            "S-1-5-32",
            "S-1-5-18",
            "S-1-1-0",
        ]
        .map(|text| text.parse().unwrap())
        .into();
        let mut expected = sids.clone();
        expected.reverse();
        sids.sort();
        assert_eq!(sids, expected);
    }

    #[test]
    fn well_known_identifiers_are_those_of_windows() {
        for (sid, text) in [
            (Sid::EVERYONE, "S-1-1-0"),
            (Sid::NETWORK, "S-1-5-2"),
            (Sid::INTERACTIVE, "S-1-5-4"),
            (Sid::SERVICE, "S-1-5-6"),
            (Sid::ANONYMOUS, "S-1-5-7"),
            (Sid::AUTHENTICATED_USERS, "S-1-5-11"),
            (Sid::REMOTE_INTERACTIVE_LOGON, "S-1-5-14"),
            (Sid::LOCAL_SYSTEM, "S-1-5-18"),
            (Sid::LOCAL_SERVICE, "S-1-5-19"),
            (Sid::NETWORK_SERVICE, "S-1-5-20"),
            (Sid::ADMINISTRATORS, "S-1-5-32-544"),
            (Sid::USERS, "S-1-5-32-545"),
            (Sid::GUESTS, "S-1-5-32-546"),
            (Sid::ALL_APP_PACKAGES, "S-1-15-2-1"),
        ] {
            assert_eq!(sid.to_string(), text);
        }
    }

    #[test]
    fn an_integrity_level_is_made_of_and_compared_with_a_number() {
        let level = Integrity::from(0x2100);
        assert_eq!(level, Integrity::MEDIUM_PLUS);
        assert_eq!(level, 0x2100);
        assert!(level > 0x2000 && level < 0x3000 && level != 0x2000);
        assert!(Integrity::LOW < level && level < Integrity::HIGH);
        assert_eq!(u32::from(level), 0x2100);
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
            prop_assert_eq!(sid.cmp(&Sid::EVERYONE).is_eq(), sid == Sid::EVERYONE);
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
