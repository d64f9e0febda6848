//! Who may connect, who the peer is: plain data and defaults. The calls are in `sys::security`.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::sys::security as sys;

/// The rights of a client that isn't the server's own user: to read and to write, but not
/// `FILE_APPEND_DATA`, which on a pipe is the right to make instances of it, and so to pose as the
/// server.
const CLIENT_RIGHTS: &str = "0x12019b";

/// Who may connect to a pipe.
///
/// The process that makes the pipe can always connect to it, too. Everybody else has only the rights
/// to read and write: nobody can make instances of somebody else's pipe.
///
/// Several are combined with [`and`](Self::and), to let all of them in.
///
/// # Examples
/// This user, and the members of a group, but never from another computer:
/// ```
/// use winpipe::{Access, Sid};
///
/// let group: Sid = "S-1-5-32-578".parse()?;
/// let access = Access::CurrentUser.and(Access::Sid(group)).and(Access::NeverRemote);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// The user that makes the pipe, in all his sessions. It's the default.
    #[default]
    CurrentUser,
    /// The processes of this logon session, and not the same user's other sessions. Programs that were
    /// started from it as somebody else (`runas`) are of this session, too. Services of the system are
    /// of none, and get [`Unsupported`](io::ErrorKind::Unsupported).
    LogonSession,
    /// Everybody who has logged on with a name and a password, or is known to the domain.
    Authenticated,
    /// Everybody but anonymous users.
    Everyone,
    /// One user, or the members of one group.
    Sid(Sid),
    /// Processes of low integrity, such as a browser's, among those who may connect otherwise: no
    /// further user, and not the default.
    LowIntegrity,
    /// Apps in containers, that have low integrity: those of the users who may connect otherwise.
    AppContainers,
    /// Nobody who has logged on over the network, whoever it is and whatever `reject_remote` says:
    /// also not such a user's processes on this computer, as those of a remote shell may be.
    NeverRemote,
    /// What a security descriptor in SDDL says, to the letter. It can't be combined. It must give
    /// this process full access (`FA`), or it can't make the backlog's instances.
    Sddl(String),
    /// All of these: what [`and`](Access::and) makes.
    AllOf(Vec<Access>),
}

impl Access {
    /// Lets both in; or, with [`NeverRemote`](Access::NeverRemote), restricts both.
    ///
    /// # Examples
    /// ```
    /// use winpipe::Access;
    ///
    /// let access = Access::Authenticated.and(Access::NeverRemote);
    /// ```
    #[must_use]
    pub fn and(self, other: Access) -> Access {
        let mut all = match self {
            Access::AllOf(all) => all,
            one => vec![one],
        };
        all.push(other);
        Access::AllOf(all)
    }

    /// The descriptor in SDDL. `user` makes the pipe; `logon` finds his logon session.
    pub(crate) fn sddl(
        &self,
        user: &Sid,
        logon: &dyn Fn() -> io::Result<Sid>,
    ) -> io::Result<String> {
        let parts = self.parts();
        if let [Access::Sddl(sddl)] = parts[..] {
            return Ok(sddl.clone());
        }
        let (mut denied, mut label) = ("", "");
        let mut own = Vec::new();
        let mut others = Vec::new();
        for part in parts {
            match part {
                Access::CurrentUser => own.push(*user),
                Access::LogonSession => own.push(logon()?),
                Access::Authenticated => others.push(Sid::AUTHENTICATED_USERS),
                Access::Everyone => others.push(Sid::EVERYONE),
                Access::Sid(sid) if sid == user => own.push(*sid),
                Access::Sid(sid) => others.push(*sid),
                Access::AppContainers => {
                    others.push(Sid::ALL_APP_PACKAGES);
                    label = LOW_LABEL;
                }
                Access::LowIntegrity => label = LOW_LABEL,
                Access::NeverRemote => denied = "(D;;FA;;;NU)",
                Access::Sddl(sddl) => {
                    return Err(invalid(format!(
                        "access by the SDDL string {sddl:?} is complete as it is, \
                         and can't be combined with other access"
                    )));
                }
                Access::AllOf(_) => unreachable!("`parts` takes them apart"),
            }
        }
        // The server itself: without full access it couldn't make a second instance.
        if own.is_empty() {
            own.push(*user);
        }
        let mut sddl = format!("O:{user}D:P{denied}");
        own.iter()
            .for_each(|sid| sddl += &format!("(A;;FA;;;{sid})"));
        others
            .iter()
            .for_each(|sid| sddl += &format!("(A;;{CLIENT_RIGHTS};;;{sid})"));
        Ok(sddl + label)
    }

    /// All that isn't made of others, in order.
    fn parts(&self) -> Vec<&Access> {
        match self {
            Access::AllOf(all) => all.iter().flat_map(Access::parts).collect(),
            one => vec![one],
        }
    }
}

/// Lets processes of low integrity write to the pipe, which is what they need to open it.
const LOW_LABEL: &str = "S:(ML;;NW;;;LW)";

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
    const ALL_APP_PACKAGES: Sid = Sid::well_known(15, &[2, 1]);

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

    /// The user that this thread acts as.
    ///
    /// This corresponds to calling `GetTokenInformation` for `TokenUser`.
    ///
    /// # Errors
    /// Those of the system.
    ///
    /// # Examples
    /// ```
    /// println!("I am {}", winpipe::Sid::current_user()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn current_user() -> io::Result<Sid> {
        sys::Token::current()?
            .user()
            .and_then(|bytes| Sid::from_bytes(&bytes))
    }

    /// Looks up the account's name, such as `OFFICE\ada`. It may ask the network.
    ///
    /// This corresponds to calling `LookupAccountSidW`.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if no account has this identifier, or it's one of
    /// another computer that can't be asked.
    ///
    /// # Examples
    /// ```
    /// let name = winpipe::Sid::LOCAL_SYSTEM.account_name()?;
    /// assert!(name.contains('\\'));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn account_name(&self) -> io::Result<String> {
        sys::lookup_account_sid(&self.to_bytes())
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
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![1, self.count];
        bytes.extend_from_slice(&self.authority.to_be_bytes()[2..]);
        self.parts()
            .iter()
            .for_each(|part| bytes.extend_from_slice(&part.to_le_bytes()));
        bytes
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
                "{text:?} is no security identifier: one looks like S-1-5-21-1-2-3-1001"
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

/// Who the peer of a stream is, as far as Windows can tell.
///
/// It's what `WinStream::peer_cred` returns. **Only [`user`](Self::user),
/// [`integrity`](Self::integrity) and [`elevated`](Self::elevated) that were learnt
/// [by impersonation](Learnt::Impersonation) may be used to authorise.** All else is a hint: the
/// number of a process can be another's by the time it's used, and a handle can be given to another
/// process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerCred {
    /// The process that opened (or made) the peer's end, from the kernel's record. A hint.
    pub pid: u32,
    /// The session that this process is in, from the kernel's record. A hint.
    pub session: Option<u32>,
    /// The user, from where `learnt` says.
    pub user: Option<Sid>,
    /// The integrity level, from where `learnt` says.
    pub integrity: Option<Integrity>,
    /// Whether it has an administrator's full rights, from where `learnt` says.
    pub elevated: Option<bool>,
    /// Where the user, the integrity level and the elevation come from.
    pub learnt: Learnt,
}

/// How something about a peer was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Learnt {
    /// The server impersonated its client for a moment. That is who opened the connection (or, of
    /// clients that ask for it, who sent the last message that was read), and may be used to
    /// authorise.
    Impersonation,
    /// The token of the process that has the peer's number now. A hint.
    Process,
    /// It wasn't: that process is gone, or this one may not look at it.
    Nothing,
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

impl PeerCred {
    /// Takes what a token says.
    pub(crate) fn with(mut self, token: &sys::Token, learnt: Learnt) -> PeerCred {
        self.user = token.user().and_then(|bytes| Sid::from_bytes(&bytes)).ok();
        let label = token
            .integrity()
            .and_then(|bytes| Sid::from_bytes(&bytes))
            .ok();
        self.integrity = label
            .and_then(|label| label.parts().last().copied())
            .map(Integrity);
        self.elevated = token.is_elevated().ok();
        self.learnt = learnt;
        self
    }
}

/// What a server may do with the identity of the client that connects to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Impersonation {
    /// Learn nothing.
    Anonymous,
    /// Learn who the client is, and not act in his name. It's the default.
    #[default]
    Identification,
    /// Act in the client's name on this computer.
    Impersonation,
    /// Act in the client's name on other computers, too.
    Delegation,
}

/// Whom a client expects to own the pipe that it connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Server {
    /// The user that this thread acts as.
    CurrentUser,
    /// The operating system, or a service that runs as it.
    LocalSystem,
    /// The administrators as a group, or the operating system. Elevated processes of other libraries
    /// make such pipes; those of this crate belong to the user, elevated or not, unless
    /// [`Access::Sddl`] says `O:BA`.
    Administrators,
    /// This user, or this group.
    Sid(Sid),
}

impl Server {
    /// Whether `owner` is whom the client expects.
    pub(crate) fn is_owner(self, owner: &Sid) -> io::Result<bool> {
        Ok(match self {
            Server::CurrentUser => *owner == Sid::current_user()?,
            Server::LocalSystem => *owner == Sid::LOCAL_SYSTEM,
            Server::Administrators => *owner == Sid::ADMINISTRATORS || *owner == Sid::LOCAL_SYSTEM,
            Server::Sid(sid) => *owner == sid,
        })
    }
}

/// The error of input that can't be used, with what is wrong with it.
pub(crate) fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user() -> Sid {
        "S-1-5-21-1-2-3-1001".parse().unwrap()
    }

    fn sddl(access: Access) -> String {
        access.sddl(&user(), &|| "S-1-5-5-0-77".parse()).unwrap()
    }

    #[test]
    fn the_default_is_the_current_user_alone() {
        assert_eq!(
            sddl(Access::default()),
            "O:S-1-5-21-1-2-3-1001D:P(A;;FA;;;S-1-5-21-1-2-3-1001)"
        );
    }

    #[test]
    fn access_is_combined_in_one_expression() {
        let group = "S-1-5-32-578".parse().unwrap();
        assert_eq!(
            sddl(
                Access::CurrentUser
                    .and(Access::Sid(group))
                    .and(Access::NeverRemote)
            ),
            "O:S-1-5-21-1-2-3-1001D:P(D;;FA;;;NU)(A;;FA;;;S-1-5-21-1-2-3-1001)\
             (A;;0x12019b;;;S-1-5-32-578)"
        );
        assert_eq!(
            sddl(Access::Everyone.and(Access::LowIntegrity)),
            "O:S-1-5-21-1-2-3-1001D:P(A;;FA;;;S-1-5-21-1-2-3-1001)\
             (A;;0x12019b;;;S-1-1-0)S:(ML;;NW;;;LW)"
        );
        assert_eq!(
            sddl(Access::CurrentUser.and(Access::AppContainers)),
            "O:S-1-5-21-1-2-3-1001D:P(A;;FA;;;S-1-5-21-1-2-3-1001)\
             (A;;0x12019b;;;S-1-15-2-1)S:(ML;;NW;;;LW)"
        );
    }

    #[test]
    fn a_logon_session_is_not_the_users_other_sessions() {
        assert_eq!(
            sddl(Access::LogonSession),
            "O:S-1-5-21-1-2-3-1001D:P(A;;FA;;;S-1-5-5-0-77)"
        );
    }

    #[test]
    fn only_the_servers_own_user_may_make_instances() {
        for access in [
            Access::Authenticated,
            Access::Everyone,
            Access::Sid(Sid::ADMINISTRATORS),
            Access::AppContainers,
        ] {
            let sddl = sddl(access);
            assert_eq!(sddl.matches("FA").count(), 1, "{sddl}");
            assert!(sddl.contains("(A;;FA;;;S-1-5-21-1-2-3-1001)"), "{sddl}");
        }
    }

    #[test]
    fn sddl_is_taken_to_the_letter_and_not_combined() {
        let own = Access::Sddl("D:P(A;;FA;;;WD)".into());
        assert_eq!(sddl(own.clone()), "D:P(A;;FA;;;WD)");
        let error = own
            .and(Access::Everyone)
            .sddl(&user(), &|| Ok(user()))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("D:P(A;;FA;;;WD)"), "{error}");
    }

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
