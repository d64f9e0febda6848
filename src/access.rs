//! Who may connect to a pipe, what a server may do as its client, and whom a client expects: plain
//! data, and what it's called in the system's own words.
//!
//! Pure `std`, no system call, so it's tested on every platform.

use std::collections::HashSet;
use std::fmt;
use std::io;

use crate::input::{invalid, quote};
use crate::sid::{Integrity, Sid};

#[cfg(all(test, unix))]
mod table;

/// The rights of a client: to read and to write, but not [`CREATE_INSTANCE`].
const CONNECT: u32 = 0x12_019b;

/// `FILE_CREATE_PIPE_INSTANCE`, which is the right to make instances of a pipe, and so to pose as the
/// server. With [`CONNECT`] it's all that making an instance takes, which asks for both.
const CREATE_INSTANCE: u32 = 0x4;

/// `READ_CONTROL`, the least that an entry for [`Sid::OWNER_RIGHTS`] can give.
const READ_CONTROL: u32 = 0x2_0000;

/// `FILE_ALL_ACCESS`.
const EVERYTHING: u32 = 0x1f_01ff;

/// Who may connect to a pipe.
///
/// The process that makes the pipe can always connect to it, too. Everybody else has only the rights
/// to read and write. Making instances, which is posing as the server, takes one right more. Only the
/// server's own user has it; where the server is elevated only administrators have it, so that
/// unelevated processes of the same user don't. Nobody can change a pipe's access rights, its owner
/// included.
///
/// Several are combined with [`and`](Self::and), to let all of them in. SECURITY.md has a table of who
/// may do what by each.
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
    /// The user that makes the pipe, in all sessions. It's the default.
    ///
    /// On a thread that impersonates, that is the user that the thread acts as. The process itself
    /// can connect, too, and it makes the further instances.
    #[default]
    CurrentUser,
    /// The processes of this logon session, and not the same user's other sessions. Programs that were
    /// started from it as somebody else (`runas`) are of this session, too. Services of the system are
    /// of none, and get [`Unsupported`](io::ErrorKind::Unsupported).
    ///
    /// The user's other sessions have one right left: to make instances that can neither read nor
    /// write. They can get in the way, and could so anyway, as a process isn't protected from others
    /// of its user.
    LogonSession,
    /// Everybody who has logged on with a name and a password, or is known to the domain: no guests,
    /// and no anonymous users.
    Authenticated,
    /// Everybody but anonymous users; guests, too.
    Everyone,
    /// One user, or the members of one group.
    Sid(Sid),
    /// Processes of low integrity, such as a browser's, among those who may connect otherwise: no
    /// further user, and not the default.
    ///
    /// **The server's own user's processes of low integrity can then make instances, too, and pose as
    /// the server**, unless the server is elevated. Windows knows them by the same identifiers as the
    /// server, and an integrity label can't tell the right to make instances from the right to write.
    LowIntegrity,
    /// Apps in containers (AppContainers), which have low integrity: those of the users who may connect
    /// otherwise. They can't make instances. But this lets in what
    /// [`LowIntegrity`](Access::LowIntegrity) lets in, too, with what is said there.
    AppContainers,
    /// Nobody who has logged on over the network, whoever it is and whatever `reject_remote` says:
    /// also not such a user's processes on this computer, as those of a remote shell may be.
    NeverRemote,
    /// What a security descriptor in SDDL says, to the letter. It can't be combined.
    ///
    /// It must give this process reading, writing and making instances (`0x12019f`, which is `FRFW`),
    /// or the backlog can't be made. The pipe's owner can change these rights, unless there is an entry
    /// for the owner's rights, such as `(A;;RC;;;S-1-3-4)`.
    Sddl(String),
    /// All of these: what [`and`](Access::and) makes.
    AllOf(Combined),
}

/// Access that [`Access::and`] has combined. It holds no other combination, however it came about.
#[derive(Clone, PartialEq, Eq)]
pub struct Combined(Vec<Access>);

impl fmt::Debug for Combined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who makes a pipe.
pub(crate) struct Maker<'a> {
    /// The user that this thread acts as, who'll own the pipe.
    pub(crate) user: Sid,
    /// How far Windows trusts what this thread acts with.
    pub(crate) integrity: Integrity,
    /// Finds the logon session that this thread acts in.
    pub(crate) logon: &'a dyn Fn() -> io::Result<Sid>,
    /// Where the thread impersonates somebody, an identifier of the process itself. It's the process
    /// that makes the further instances, from whatever thread.
    pub(crate) process: Option<Sid>,
    /// The identifier of the process that may make further instances: its user, or the administrators
    /// where it's elevated.
    pub(crate) creator: Sid,
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
        let mut all = self.into_parts();
        all.extend(other.into_parts());
        Access::AllOf(Combined(all))
    }

    /// The descriptor in SDDL of a pipe that `maker` makes.
    pub(crate) fn sddl(&self, maker: &Maker<'_>) -> io::Result<String> {
        let parts = self.parts();
        if let [Access::Sddl(sddl)] = parts {
            // To Windows the string would end there, and so would the policy.
            if sddl.contains('\0') {
                return Err(invalid(format!(
                    "the SDDL string {} holds a NUL character",
                    quote(sddl)
                )));
            }
            return Ok(sddl.clone());
        }
        let mut denied = Vec::new();
        let mut label = Integrity::MEDIUM;
        let mut granted = Granted::default();
        let mut names_the_server = false;
        for part in parts {
            match part {
                Access::CurrentUser => {
                    names_the_server = true;
                    granted.add(maker.user, CONNECT);
                }
                Access::LogonSession => {
                    names_the_server = true;
                    granted.add((maker.logon)()?, CONNECT);
                }
                Access::Authenticated => granted.add(Sid::AUTHENTICATED_USERS, CONNECT),
                Access::Everyone => granted.add(Sid::EVERYONE, CONNECT),
                Access::Sid(sid) => granted.add(*sid, CONNECT),
                Access::AppContainers => {
                    granted.add(Sid::ALL_APP_PACKAGES, CONNECT);
                    label = Integrity::LOW;
                }
                Access::LowIntegrity => label = Integrity::LOW,
                Access::NeverRemote => denied = vec![(Sid::NETWORK, EVERYTHING)],
                Access::Sddl(sddl) => {
                    return Err(invalid(format!(
                        "access by the SDDL string {} is complete as it is, \
                         and can't be combined with other access",
                        quote(sddl)
                    )));
                }
                Access::AllOf(_) => unreachable!("a combination holds no other"),
            }
        }
        // The server itself, which could make no further instance otherwise.
        match maker.process {
            Some(process) => granted.add(process, CONNECT),
            None if !names_the_server => granted.add(maker.user, CONNECT),
            None => {}
        }
        granted.add(maker.creator, CREATE_INSTANCE);

        // Windows looks at the entries in this order, and at each right's first entry only.
        let mut sddl = format!("O:{}D:P", maker.user);
        let mut entry = |kind, (sid, rights): &(Sid, u32)| {
            sddl += &format!("({kind};;{rights:#x};;;{sid})");
        };
        denied.iter().for_each(|denied| entry('D', denied));
        granted
            .entries
            .iter()
            .for_each(|entry_of| entry('A', entry_of));
        // An owner may always look at an object's access rights and change them, unless there is an
        // entry for the owner's rights. Looking is harmless, but takes an instance as any opening does,
        // so it's denied to an owner who isn't let in above.
        if !granted.has(&maker.user, CONNECT) {
            entry('D', &(maker.user, EVERYTHING));
        }
        entry('A', &(Sid::OWNER_RIGHTS, READ_CONTROL));
        // What is trusted less has none of these rights at all. Without a label it could still open the
        // pipe to read. Nobody can label anything with more than is its own.
        let label = label.min(maker.integrity).level();
        Ok(sddl + &format!("S:(ML;;NRNWNX;;;S-1-16-{label})"))
    }

    /// All that isn't made of others, in order.
    fn parts(&self) -> &[Access] {
        match self {
            Access::AllOf(all) => &all.0,
            one => std::slice::from_ref(one),
        }
    }

    fn into_parts(self) -> Vec<Access> {
        match self {
            Access::AllOf(all) => all.0,
            one => vec![one],
        }
    }
}

/// Rights of which each identifier has one entry, in the order in which they came.
#[derive(Default)]
struct Granted {
    entries: Vec<(Sid, u32)>,
    known: HashSet<Sid>,
}

impl Granted {
    fn add(&mut self, sid: Sid, rights: u32) {
        if self.known.insert(sid) {
            self.entries.push((sid, rights));
        } else if let Some((_, known)) = self.entries.iter_mut().find(|(known, _)| *known == sid) {
            *known |= rights;
        }
    }

    fn has(&self, sid: &Sid, rights: u32) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|(known, granted)| known == sid && granted & rights == rights)
    }
}

/// What a server may do with the identity of the client that connects to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(clippy::enum_variant_names, reason = "they are Windows' names")]
pub enum Impersonation {
    /// Learn nothing.
    Anonymous,
    /// Learn who the client is, and not act in its name. It's the default.
    #[default]
    Identification,
    /// Act in the client's name on this computer.
    Impersonation,
    /// Act in the client's name on other computers, too.
    Delegation,
}

impl Impersonation {
    /// Whether the server may act as the client.
    pub(crate) fn lets_act(self) -> bool {
        matches!(
            self,
            Impersonation::Impersonation | Impersonation::Delegation
        )
    }
}

/// Whom a client expects to have made the pipe that it connects to.
///
/// A pipe's owner is the user that made it, or the administrators, as a program chooses. Nobody can name
/// somebody else as the owner, but for administrators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Server {
    /// The user that this thread acts as, by a process of medium integrity or more.
    ///
    /// A pipe that is labelled with less, as those of a web page's processes are, is refused, unless
    /// this thread has no more itself. That goes for pipes with [`Access::LowIntegrity`], too, as
    /// processes of low integrity can make instances of those; [`Server::Sid`] accepts them. It says
    /// nothing about elevation: the pipes of elevated and unelevated processes look the same.
    CurrentUser,
    /// The operating system or its administrators, which is what services of the system that run as
    /// LocalSystem, and elevated programs, may have as their pipes' owner.
    ///
    /// A service that runs by another account is a [`Server::Sid`]. So is an elevated program that
    /// makes its pipe with this crate, unless [`Access::Sddl`] says `O:BA`: the pipe is the user's.
    System,
    /// This user, or this group, whatever the pipe's integrity label.
    Sid(Sid),
}

impl Server {
    /// Fails if the pipe isn't made by whom the client expects. `me` finds who the client is.
    pub(crate) fn check(
        self,
        origin: &Origin,
        me: impl FnOnce() -> io::Result<(Sid, Integrity)>,
    ) -> io::Result<()> {
        let refused = |message| Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        let Origin { owner, label } = *origin;
        let is_owner = match self {
            Server::CurrentUser => {
                let (user, integrity) = me()?;
                // Pipes of processes above medium integrity have no label either.
                if owner == user && label < integrity.min(Integrity::MEDIUM) {
                    return refused(format!(
                        "the pipe belongs to {owner} as expected, but processes that Windows trusts \
                         less than this one may have made it: it's labelled {label:?}"
                    ));
                }
                owner == user
            }
            Server::System => owner == Sid::LOCAL_SYSTEM || owner == Sid::ADMINISTRATORS,
            Server::Sid(sid) => owner == sid,
        };
        if is_owner {
            return Ok(());
        }
        refused(format!(
            "the pipe belongs to {owner}, and not to {self:?} as expected"
        ))
    }
}

/// What a pipe's descriptor says of who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    owner: Sid,
    /// What is said nothing of has medium integrity.
    label: Integrity,
}

impl Origin {
    /// Reads it from a descriptor in self-relative form.
    pub(crate) fn from_bytes(descriptor: &[u8]) -> io::Result<Origin> {
        Origin::parse(descriptor).ok_or_else(|| {
            let message = "the pipe has no owner, or its security descriptor is malformed";
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    }

    fn parse(descriptor: &[u8]) -> Option<Origin> {
        const HAS_SACL: u16 = 0x10;
        const MANDATORY_LABEL: u8 = 0x11;
        let u16_at = |bytes: &[u8], at: usize| {
            let bytes = bytes.get(at..)?.first_chunk()?;
            Some(u16::from_le_bytes(*bytes))
        };
        let offset = |at: usize| {
            let bytes = descriptor.get(at..)?.first_chunk()?;
            usize::try_from(u32::from_le_bytes(*bytes)).ok()
        };
        let control = u16_at(descriptor, 2)?;
        let (owner, sacl) = (offset(4)?, offset(12)?);
        if owner == 0 {
            return None;
        }
        let mut label = None;
        if control & HAS_SACL != 0 && sacl != 0 {
            let count = u16_at(descriptor, sacl.checked_add(4)?)?;
            let mut entries = descriptor.get(sacl.checked_add(8)?..)?;
            for _ in 0..count {
                let size = usize::from(u16_at(entries, 2)?);
                let (entry, rest) = entries.split_at_checked(size)?;
                entries = rest;
                if *entry.first()? == MANDATORY_LABEL {
                    let level = Sid::from_bytes(entry.get(8..)?).ok()?.integrity()?;
                    // There should be one. Of several the lowest, to be safe, inherited or not.
                    label = Some(label.map_or(level, |label: Integrity| label.min(level)));
                }
            }
        }
        let label = label.unwrap_or(Integrity::MEDIUM);
        let owner = Sid::from_bytes(descriptor.get(owner..)?).ok()?;
        Some(Origin { owner, label })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What keeps the owner from changing the rights; and from looking at them.
    const OWNER_RIGHTS: &str = "(A;;0x20000;;;S-1-3-4)";
    const STRANGERS: &str = "(D;;0x1f01ff;;;S-1-5-21-1-2-3-1001)(A;;0x20000;;;S-1-3-4)";

    fn sid(text: &str) -> Sid {
        text.parse().unwrap()
    }

    fn user() -> Sid {
        sid("S-1-5-21-1-2-3-1001")
    }

    /// A process of that user that isn't elevated.
    fn maker() -> Maker<'static> {
        Maker {
            user: user(),
            integrity: Integrity::MEDIUM,
            logon: &|| "S-1-5-5-0-77".parse(),
            process: None,
            creator: user(),
        }
    }

    fn sddl(access: Access) -> String {
        access.sddl(&maker()).unwrap()
    }

    fn by(maker: Maker<'_>, access: Access) -> String {
        access.sddl(&maker).unwrap()
    }

    /// The entries of a descriptor, between its owner and its label, which is as expected.
    fn labelled(sddl: &str, level: u32) -> &str {
        let label = format!("S:(ML;;NRNWNX;;;S-1-16-{level})");
        let sddl = sddl.strip_prefix("O:S-1-5-21-1-2-3-1001D:P").unwrap();
        sddl.strip_suffix(&label)
            .unwrap_or_else(|| panic!("{sddl}"))
    }

    fn dacl(sddl: &str) -> &str {
        labelled(sddl, 0x2000)
    }

    fn low_dacl(sddl: &str) -> &str {
        labelled(sddl, 0x1000)
    }

    #[test]
    fn the_default_is_the_current_user_alone() {
        let expected = format!("(A;;0x12019f;;;S-1-5-21-1-2-3-1001){OWNER_RIGHTS}");
        assert_eq!(dacl(&sddl(Access::default())), expected);
    }

    #[test]
    fn access_is_combined_in_one_expression() {
        let group = Access::Sid(sid("S-1-5-32-578"));
        assert_eq!(
            dacl(&sddl(
                Access::CurrentUser.and(group).and(Access::NeverRemote)
            )),
            format!(
                "(D;;0x1f01ff;;;S-1-5-2)(A;;0x12019f;;;S-1-5-21-1-2-3-1001)\
                 (A;;0x12019b;;;S-1-5-32-578){OWNER_RIGHTS}"
            )
        );
        assert_eq!(
            low_dacl(&sddl(Access::Everyone.and(Access::LowIntegrity))),
            format!(
                "(A;;0x12019b;;;S-1-1-0)(A;;0x12019f;;;S-1-5-21-1-2-3-1001)\
                 {OWNER_RIGHTS}"
            )
        );
        assert_eq!(
            low_dacl(&sddl(Access::CurrentUser.and(Access::AppContainers))),
            format!(
                "(A;;0x12019f;;;S-1-5-21-1-2-3-1001)(A;;0x12019b;;;S-1-15-2-1)\
                 {OWNER_RIGHTS}"
            )
        );
    }

    #[test]
    fn a_logon_session_is_not_the_users_other_sessions() {
        assert_eq!(
            dacl(&sddl(Access::LogonSession)),
            format!("(A;;0x12019b;;;S-1-5-5-0-77)(A;;0x4;;;S-1-5-21-1-2-3-1001){STRANGERS}")
        );
        // Unless they are let in, too.
        assert_eq!(
            dacl(&sddl(Access::LogonSession.and(Access::CurrentUser))),
            format!(
                "(A;;0x12019b;;;S-1-5-5-0-77)(A;;0x12019f;;;S-1-5-21-1-2-3-1001){OWNER_RIGHTS}"
            )
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
            assert_eq!(sddl.matches("(A;;0x12019f;").count(), 1, "{sddl}");
            assert!(
                sddl.contains("(A;;0x12019f;;;S-1-5-21-1-2-3-1001)"),
                "{sddl}"
            );
        }
    }

    #[test]
    fn only_administrators_may_make_instances_where_the_server_is_elevated() {
        let elevated = || Maker {
            creator: Sid::ADMINISTRATORS,
            ..maker()
        };
        assert_eq!(
            dacl(&by(elevated(), Access::CurrentUser)),
            format!("(A;;0x12019b;;;S-1-5-21-1-2-3-1001)(A;;0x4;;;S-1-5-32-544){OWNER_RIGHTS}")
        );
        assert_eq!(
            dacl(&by(elevated(), Access::LogonSession)),
            format!("(A;;0x12019b;;;S-1-5-5-0-77)(A;;0x4;;;S-1-5-32-544){STRANGERS}")
        );
    }

    #[test]
    fn who_impersonates_lets_the_process_itself_in_too() {
        let service = sid("S-1-5-20");
        let impersonating = || Maker {
            process: Some(sid("S-1-5-5-0-33")),
            creator: service,
            ..maker()
        };
        // The user owns the pipe, and may connect. The process can do what it takes to accept.
        for (access, who) in [
            (Access::CurrentUser, "S-1-5-21-1-2-3-1001"),
            (Access::LogonSession, "S-1-5-5-0-77"),
            (Access::Authenticated, "S-1-5-11"),
        ] {
            let found = by(impersonating(), access.clone());
            let rest = match access {
                Access::CurrentUser => OWNER_RIGHTS,
                _ => STRANGERS,
            };
            let expected = format!(
                "(A;;0x12019b;;;{who})(A;;0x12019b;;;S-1-5-5-0-33)(A;;0x4;;;S-1-5-20){rest}"
            );
            assert_eq!(dacl(&found), expected, "{access:?}");
        }
    }

    #[test]
    fn a_label_is_at_most_what_its_maker_has() {
        for (mine, level, low_level) in [
            (Integrity::SYSTEM, 0x2000, 0x1000),
            (Integrity::HIGH, 0x2000, 0x1000),
            (Integrity::LOW, 0x1000, 0x1000),
            (Integrity::UNTRUSTED, 0, 0),
        ] {
            let by_me = || Maker {
                integrity: mine,
                ..maker()
            };
            labelled(&by(by_me(), Access::CurrentUser), level);
            labelled(&by(by_me(), Access::LowIntegrity), low_level);
        }
    }

    #[test]
    fn sddl_is_taken_to_the_letter_and_not_combined() {
        let own = Access::Sddl("D:P(A;;FA;;;WD)".into());
        assert_eq!(sddl(own.clone()), "D:P(A;;FA;;;WD)");
        for combined in [own.clone().and(Access::Everyone), Access::Everyone.and(own)] {
            let error = combined.sddl(&maker()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("D:P(A;;FA;;;WD)"), "{error}");
        }
    }

    #[test]
    fn sddl_with_a_nul_is_refused_and_not_cut_off() {
        let cut = "D:P(A;;FA;;;WD)\0(D;;FA;;;NU)";
        let error = Access::Sddl(cut.into()).sddl(&maker()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("NUL"), "{error}");
    }

    #[test]
    fn bad_sddl_is_quoted_by_its_beginning() {
        let long = format!("D:P{}", "(A;;FA;;;WD)".repeat(100_000));
        for access in [
            Access::Sddl(long.clone() + "\0"),
            Access::Sddl(long).and(Access::Everyone),
        ] {
            let error = access.sddl(&maker()).unwrap_err().to_string();
            assert!(error.contains("D:P(A;;FA;;;WD)("), "{error}");
            assert!(error.chars().count() < 400, "{error}");
        }
    }

    #[test]
    fn access_that_is_combined_without_end_is_flat() {
        // On a stack that holds no 100,000 of anything.
        let small = std::thread::Builder::new().stack_size(64 << 10);
        let test = || {
            let mut left = Access::Everyone;
            let mut right = Access::Everyone;
            for part in 0..100_000 {
                let part = match part % 3 {
                    0 => Access::CurrentUser,
                    1 => Access::Sid(Sid::ADMINISTRATORS),
                    _ => Access::LowIntegrity.and(Access::NeverRemote),
                };
                // One grows to the right. The other doubles, as long as there is room.
                left = left.and(part.clone());
                if right.parts().len() < 100_000 {
                    right = right.clone().and(right).and(part);
                }
            }
            for access in [left, right] {
                assert!(access.parts().len() >= 100_000);
                assert_eq!(access, access.clone());
                assert!(format!("{access:?}").starts_with("AllOf([Everyone, "));
                let parts = access.parts().iter();
                assert!(!parts.clone().any(|part| matches!(part, Access::AllOf(_))));
                // What is said again has no entry of its own.
                assert_eq!(
                    low_dacl(&sddl(access)),
                    format!(
                        "(D;;0x1f01ff;;;S-1-5-2)(A;;0x12019b;;;S-1-1-0)\
                         (A;;0x12019f;;;S-1-5-21-1-2-3-1001)(A;;0x12019b;;;S-1-5-32-544)\
                         {OWNER_RIGHTS}"
                    )
                );
            }
        };
        small.spawn(test).unwrap().join().unwrap();
    }

    /// A descriptor in self-relative form, with these entries in its system list.
    fn descriptor(owner: Sid, entries: &[Vec<u8>]) -> Vec<u8> {
        let owner = owner.to_bytes();
        let sacl = if entries.is_empty() {
            0
        } else {
            20 + owner.len() as u32
        };
        let control: u16 = if entries.is_empty() { 0x8000 } else { 0x8010 };
        let mut bytes = vec![1, 0];
        bytes.extend(control.to_le_bytes());
        for offset in [20, 0, sacl, 0] {
            bytes.extend(offset.to_le_bytes());
        }
        bytes.extend(owner);
        if sacl != 0 {
            let size = 8 + entries.iter().map(Vec::len).sum::<usize>() as u16;
            bytes.extend([2, 0]);
            bytes.extend(size.to_le_bytes());
            bytes.extend((entries.len() as u16).to_le_bytes());
            bytes.extend([0, 0]);
            entries.iter().for_each(|entry| bytes.extend(entry));
        }
        bytes
    }

    fn entry(kind: u8, flags: u8, of: &str) -> Vec<u8> {
        let of = sid(of).to_bytes();
        let mut bytes = vec![kind, flags];
        bytes.extend((8 + of.len() as u16).to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(of);
        bytes
    }

    #[test]
    fn a_descriptor_says_who_made_the_pipe() {
        let (low, high) = ("S-1-16-4096", "S-1-16-12288");
        for (entries, label) in [
            (vec![], Integrity::MEDIUM),
            (vec![entry(0x11, 0, low)], Integrity::LOW),
            (vec![entry(0x11, 0, high)], Integrity::HIGH),
            (vec![entry(0x2, 0, "S-1-1-0")], Integrity::MEDIUM),
            (
                vec![entry(0x2, 0, "S-1-1-0"), entry(0x11, 0, low)],
                Integrity::LOW,
            ),
            (
                vec![entry(0x11, 0, high), entry(0x11, 8, low)],
                Integrity::LOW,
            ),
        ] {
            let bytes = descriptor(user(), &entries);
            let expected = Origin {
                owner: user(),
                label,
            };
            assert_eq!(Origin::from_bytes(&bytes).unwrap(), expected);
            // Cut anywhere, it's malformed, as whatever it holds comes last.
            for len in 0..bytes.len() {
                let error = Origin::from_bytes(&bytes[..len]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            }
        }
        let mut ownerless = descriptor(user(), &[]);
        ownerless[4..8].fill(0);
        Origin::from_bytes(&ownerless).unwrap_err();
        let odd = descriptor(user(), &[entry(0x11, 0, "S-1-1-0")]);
        Origin::from_bytes(&odd).unwrap_err();
    }

    #[test]
    fn a_server_is_expected_by_its_owner_and_the_own_user_by_its_label_too() {
        let stranger = sid("S-1-5-21-1-2-3-1002");
        let check = |server: Server, owner: Sid, label: Integrity, mine: Integrity| {
            let error = match server.check(&Origin { owner, label }, || Ok((user(), mine))) {
                Ok(()) => return true,
                Err(error) => error,
            };
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(error.to_string().contains(&owner.to_string()), "{error}");
            false
        };
        let (low, medium, high) = (Integrity::LOW, Integrity::MEDIUM, Integrity::HIGH);
        for (label, mine, expected) in [
            (medium, medium, true),
            // What a process of high integrity makes has no label, as an ordinary one's.
            (medium, high, true),
            (medium, Integrity::SYSTEM, true),
            (high, medium, true),
            (medium, low, true),
            (low, low, true),
            (low, medium, false),
            (low, high, false),
            (Integrity::UNTRUSTED, low, false),
        ] {
            let found = check(Server::CurrentUser, user(), label, mine);
            assert_eq!(found, expected, "{label:?} to {mine:?}");
            assert!(!check(Server::CurrentUser, stranger, label, mine));
            assert!(check(Server::Sid(user()), user(), label, mine));
            assert!(!check(Server::Sid(user()), stranger, label, mine));
        }
        for (owner, expected) in [
            (Sid::LOCAL_SYSTEM, true),
            (Sid::ADMINISTRATORS, true),
            (user(), false),
            (Sid::EVERYONE, false),
        ] {
            assert_eq!(check(Server::System, owner, medium, medium), expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_descriptor_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            label in any::<u32>(),
            cut in 0_usize..80,
            byte in any::<u8>(),
        ) {
            let _ = Origin::from_bytes(&bytes);
            // And what is nearly one.
            let mut nearly = descriptor(user(), &[entry(0x11, 0, &format!("S-1-16-{label}"))]);
            if let Some(one) = nearly.get_mut(cut) {
                *one = byte;
            }
            let _ = Origin::from_bytes(&nearly);
        }
    }
}
