//! Which users can connect to a pipe, what a server may do as its client, and which server a client
//! expects: plain data, and its translation into security descriptors.
//!
//! This uses only std and makes no system calls, so it's tested on every platform.

use std::collections::HashSet;
use std::fmt;
use std::io;

use crate::input::{invalid, quote};
use crate::sid::{Integrity, Sid};

#[cfg(all(test, unix))]
mod table;

/// The access rights of a client: to read and to write, but not [`CREATE_INSTANCE`].
const CONNECT: u32 = 0x12_019b;

/// `FILE_CREATE_PIPE_INSTANCE`, the right to create instances of a pipe, and so to pose as its
/// server. Creating an instance requires this right and [`CONNECT`], and nothing else.
const CREATE_INSTANCE: u32 = 0x4;

/// `READ_CONTROL`, the least that an entry for [`Sid::OWNER_RIGHTS`] can grant.
const READ_CONTROL: u32 = 0x2_0000;

/// `FILE_ALL_ACCESS`.
const EVERYTHING: u32 = 0x1f_01ff;

/// The users that can connect to a pipe.
///
/// Start with a user or a group: [`CURRENT_USER`](Self::CURRENT_USER) is the default, and any
/// [`Sid`] can be converted. Add others with [`or`](Self::or). Then call the methods that apply to
/// all of them:
///
/// | method | effect |
/// |---|---|
/// | [`never_remote`](Self::never_remote), [`local_logon`](Self::local_logon) | fewer processes can connect, depending on how their users have logged on |
/// | [`low_integrity`](Self::low_integrity), [`app_packages`](Self::app_packages), [`app_package`](Self::app_package) | more of these users' processes can connect: sandboxed ones, too |
///
/// The server's own user can always connect, too, unless the access names its
/// [`LOGON_SESSION`](Self::LOGON_SESSION) instead.
///
/// Clients get the rights to read and write, and no others. Creating instances of the pipe, and so
/// posing as its server, requires an additional right, which only the server's own user has. If the
/// server is elevated, only administrators have it, and unelevated processes of the same user
/// don't. No user can change a pipe's access rights, not even its owner.
///
/// SECURITY.md has a table of what each access allows. `Debug` prints an access in words.
///
/// # Examples
/// The current user and the members of a group, but not over the network:
/// ```
/// use winpipe::{Access, Sid};
///
/// let operators: Sid = "S-1-5-32-578".parse()?;
/// let access = Access::CURRENT_USER.or(operators).never_remote();
/// assert_eq!(
///     format!("{access:?}"),
///     "the current user or the members of S-1-5-32-578, never over the network"
/// );
/// # Ok::<(), winpipe::ParseSidError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Access(Policy);

#[derive(Clone, PartialEq, Eq)]
enum Policy {
    Rules(Rules),
    Sddl(String),
    /// `bind` fails, with this message.
    Invalid(String),
}

#[derive(Clone, PartialEq, Eq)]
struct Rules {
    /// There is always one. No entry occurs twice, here and in `others`.
    first: Who,
    others: Vec<Who>,
    terms: Terms,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    CurrentUser,
    LogonSession,
    Sid(Sid),
}

/// What applies to all users that can connect.
#[derive(Clone, PartialEq, Eq)]
struct Terms {
    logons: Logons,
    low_integrity: bool,
    app_packages: Vec<Sid>,
}

/// How the users that can connect may have logged on. Each value excludes more than the one before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Logons {
    Any,
    NotNetwork,
    Local,
}

impl Logons {
    /// The groups of users that logged on in another way.
    fn excluded(self) -> &'static [Sid] {
        const REMOTE: [Sid; 2] = [Sid::NETWORK, Sid::REMOTE_INTERACTIVE_LOGON];
        match self {
            Logons::Any => &[],
            Logons::NotNetwork => &REMOTE[..1],
            Logons::Local => &REMOTE,
        }
    }
}

/// The thread and the process that create a pipe.
pub(crate) struct Maker<'a> {
    /// The user that this thread acts as. It will own the pipe.
    pub(crate) user: Sid,
    /// The integrity level that this thread acts with.
    pub(crate) integrity: Integrity,
    /// Returns the logon session that this thread acts in.
    pub(crate) logon: &'a dyn Fn() -> io::Result<Sid>,
    /// If the thread is impersonating, a SID of the process itself: the process creates the further
    /// instances, on any thread.
    pub(crate) process: Option<Sid>,
    /// The SID of the process that is granted the right to create further instances: its user, or
    /// the administrators if it's elevated.
    pub(crate) creator: Sid,
}

impl Access {
    /// The user that creates the pipe, in all logon sessions. This is the default.
    ///
    /// On a thread that is impersonating, this is the user that the thread acts as. The process
    /// itself can connect, too, and it creates the further instances.
    pub const CURRENT_USER: Access = Access::of(Who::CurrentUser);

    /// The processes of this logon session, and not those of the same user's other sessions.
    ///
    /// Programs that were started from it as another user (`runas`) are part of it, too. Services
    /// of the system aren't in any logon session: there, `bind` fails with
    /// [`Unsupported`](io::ErrorKind::Unsupported).
    ///
    /// The user's other sessions keep one right: to create instances that can neither read nor
    /// write. So they can interfere with the pipe. They could do that anyway, because Windows
    /// doesn't protect a process from other processes of its user.
    pub const LOGON_SESSION: Access = Access::of(Who::LogonSession);

    /// All users that have logged on with an account. Guests and anonymous users aren't included.
    pub const AUTHENTICATED_USERS: Access = Access::of(Who::Sid(Sid::AUTHENTICATED_USERS));

    /// All users, including guests, but not anonymous users.
    pub const EVERYONE: Access = Access::of(Who::Sid(Sid::EVERYONE));

    /// This computer's administrators. Of their processes, only elevated ones count.
    pub const ADMINISTRATORS: Access = Access::of(Who::Sid(Sid::ADMINISTRATORS));

    const fn of(first: Who) -> Access {
        Access(Policy::Rules(Rules {
            first,
            others: Vec::new(),
            terms: Terms {
                logons: Logons::Any,
                low_integrity: false,
                app_packages: Vec::new(),
            },
        }))
    }

    /// Uses the security descriptor with this SDDL string, exactly as given.
    ///
    /// The descriptor must grant this process the rights to read, to write and to create instances
    /// (`0x12019f`, which is `FRFW`). Otherwise the backlog can't be created. The pipe's owner can
    /// change the access rights, unless there is an entry for the owner's rights, such as
    /// `(A;;RC;;;S-1-3-4)`.
    ///
    /// This access can't be combined or restricted. If it is, `bind` fails with
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), and so it does if the text isn't a valid
    /// descriptor.
    ///
    /// # Examples
    /// ```
    /// use winpipe::Access;
    ///
    /// let access = Access::sddl("D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;RC;;;S-1-3-4)");
    /// ```
    #[must_use]
    pub fn sddl(text: impl Into<String>) -> Access {
        Access(Policy::Sddl(text.into()))
    }

    /// Lets the users of both connect: those of `self` and those of `other`.
    ///
    /// Restrictions and labels apply to all users, so call those methods last, after `or`. If
    /// `self` and `other` differ in them, `bind` fails with
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    ///
    /// # Examples
    /// ```
    /// use winpipe::{Access, Sid};
    ///
    /// let access = Access::CURRENT_USER.or(Access::ADMINISTRATORS).or(Sid::NETWORK_SERVICE);
    /// ```
    #[must_use]
    pub fn or(self, other: impl Into<Access>) -> Access {
        let (mut rules, others) = match (self.0, other.into().0) {
            (Policy::Rules(rules), Policy::Rules(others)) => (rules, others),
            (invalid @ Policy::Invalid(_), _) | (_, invalid @ Policy::Invalid(_)) => {
                return Access(invalid);
            }
            (Policy::Sddl(sddl), _) | (_, Policy::Sddl(sddl)) => return Access(complete(&sddl)),
        };
        if rules.terms != others.terms {
            let message = "the two sides of `or` differ in never_remote, local_logon, \
                           low_integrity or app_package: these apply to all users, so call \
                           them last";
            return Access(Policy::Invalid(message.into()));
        }
        for who in std::iter::once(others.first).chain(others.others) {
            if who != rules.first && !rules.others.contains(&who) {
                rules.others.push(who);
            }
        }
        Access(Policy::Rules(rules))
    }

    /// Excludes all users that have logged on over the network.
    ///
    /// This includes their processes on this computer, such as those of a remote shell, whatever
    /// [`reject_remote`](crate::ListenOptions::reject_remote) is set to. A server that was itself
    /// started over the network can't create such a pipe: `bind` fails with
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied).
    ///
    /// # Examples
    /// ```
    /// use winpipe::Access;
    ///
    /// let access = Access::AUTHENTICATED_USERS.never_remote();
    /// ```
    #[must_use]
    pub fn never_remote(self) -> Access {
        self.with(|terms| terms.logons = terms.logons.max(Logons::NotNetwork))
    }

    /// Excludes all users that have logged on from another computer: over the network, as
    /// [`never_remote`](Self::never_remote) does, and by remote desktop.
    ///
    /// A server that itself runs in a remote session can't create such a pipe: `bind` fails with
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied).
    ///
    /// # Examples
    /// ```
    /// use winpipe::Access;
    ///
    /// let access = Access::CURRENT_USER.local_logon();
    /// ```
    #[must_use]
    pub fn local_logon(self) -> Access {
        self.with(|terms| terms.logons = terms.logons.max(Logons::Local))
    }

    /// Labels the pipe with low integrity, so that low-integrity processes, such as a browser's,
    /// can connect if their users can. By default they can't connect.
    ///
    /// **Low-integrity processes of the server's own user can then create instances, too, and pose
    /// as the server**, unless the server is elevated. They have the same SIDs as the server, and
    /// an integrity label can't distinguish the right to create instances from the right to write.
    ///
    /// # Examples
    /// ```
    /// use winpipe::Access;
    ///
    /// let access = Access::CURRENT_USER.low_integrity();
    /// ```
    #[must_use]
    pub fn low_integrity(self) -> Access {
        self.with(|terms| terms.low_integrity = true)
    }

    /// Lets all apps that run in an AppContainer connect, if their users can. This does for all
    /// packages what [`app_package`](Self::app_package) does for one.
    ///
    /// # Examples
    /// ```
    /// use winpipe::Access;
    ///
    /// let access = Access::CURRENT_USER.app_packages();
    /// ```
    #[must_use]
    pub fn app_packages(self) -> Access {
        self.app_package(Sid::ALL_APP_PACKAGES)
    }

    /// Lets the apps of one package, which run in an AppContainer, connect if their users can.
    ///
    /// Apps can't create instances of the pipe. But they have low integrity, so this lets the same
    /// processes connect as [`low_integrity`](Self::low_integrity) does, with the risk described
    /// there.
    ///
    /// A package's SID, `S-1-15-2-…`, is the one that `DeriveAppContainerSidFromAppContainerName`
    /// returns. With any other SID, `bind` fails with
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    ///
    /// # Examples
    /// ```
    /// use winpipe::{Access, Sid};
    ///
    /// let package: Sid = "S-1-15-2-1-2-3-4-5-6-7".parse()?;
    /// let access = Access::CURRENT_USER.app_package(package);
    /// # Ok::<(), winpipe::ParseSidError>(())
    /// ```
    #[must_use]
    pub fn app_package(self, package: Sid) -> Access {
        let access = self.with(|terms| {
            if !terms.app_packages.contains(&package) {
                terms.app_packages.push(package);
            }
        });
        match access.0 {
            Policy::Rules(_) if !package.is_app_package() => Access(Policy::Invalid(format!(
                "{package} isn't an app package: the SID of one looks like S-1-15-2-1-2-3-4-5-6-7"
            ))),
            policy => Access(policy),
        }
    }

    /// Changes what applies to all users.
    fn with(self, change: impl FnOnce(&mut Terms)) -> Access {
        Access(match self.0 {
            Policy::Rules(mut rules) => {
                change(&mut rules.terms);
                Policy::Rules(rules)
            }
            Policy::Sddl(sddl) => complete(&sddl),
            invalid @ Policy::Invalid(_) => invalid,
        })
    }

    /// Returns the security descriptor, as SDDL, of a pipe that `maker` creates.
    pub(crate) fn to_sddl(&self, maker: &Maker<'_>) -> io::Result<String> {
        match &self.0 {
            Policy::Rules(rules) => rules.to_sddl(maker),
            // For Windows the string would end there, and the entries after it would be ignored.
            Policy::Sddl(sddl) if sddl.contains('\0') => Err(invalid(format!(
                "the SDDL string {} contains a NUL character",
                quote(sddl)
            ))),
            Policy::Sddl(sddl) => Ok(sddl.clone()),
            Policy::Invalid(message) => Err(invalid(message.clone())),
        }
    }
}

/// The policy that results from combining or restricting this SDDL string.
fn complete(sddl: &str) -> Policy {
    Policy::Invalid(format!(
        "the SDDL string {} can't be combined with other access or restricted: \
         write all access rights into the string",
        quote(sddl)
    ))
}

impl Rules {
    fn who(&self) -> impl Iterator<Item = &Who> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn to_sddl(&self, maker: &Maker<'_>) -> io::Result<String> {
        let mut granted = Granted::default();
        let mut names_the_server = false;
        for who in self.who() {
            match who {
                Who::CurrentUser => {
                    names_the_server = true;
                    granted.add(maker.user, CONNECT);
                }
                Who::LogonSession => {
                    names_the_server = true;
                    granted.add((maker.logon)()?, CONNECT);
                }
                Who::Sid(sid) => granted.add(*sid, CONNECT),
            }
        }
        let Terms {
            logons,
            low_integrity,
            app_packages,
        } = &self.terms;
        for package in app_packages {
            granted.add(*package, CONNECT);
        }
        // The server itself. Otherwise it couldn't create further instances.
        match maker.process {
            Some(process) => granted.add(process, CONNECT),
            None if !names_the_server => granted.add(maker.user, CONNECT),
            None => {}
        }
        granted.add(maker.creator, CREATE_INSTANCE);

        // Windows evaluates the entries in this order. For each right, the first entry decides.
        let mut sddl = format!("O:{}D:P", maker.user);
        let mut entry = |kind, sid: &Sid, rights: u32| {
            sddl += &format!("({kind};;{rights:#x};;;{sid})");
        };
        for excluded in logons.excluded() {
            entry('D', excluded, EVERYTHING);
        }
        for (sid, rights) in &granted.entries {
            entry('A', sid, *rights);
        }
        // An owner can always read and change an object's access rights, unless there is an entry
        // for the owner's rights. Reading them is harmless, but opening the pipe for that takes an
        // instance, as any opening does. So it's denied to an owner that isn't granted access
        // above.
        if !granted.has(&maker.user, CONNECT) {
            entry('D', &maker.user, EVERYTHING);
        }
        entry('A', &Sid::OWNER_RIGHTS, READ_CONTROL);
        // A process of lower integrity than the label gets none of these rights. Without a label it
        // could still open the pipe for reading. A process can't set a label above its own level.
        let label = match *low_integrity || !app_packages.is_empty() {
            true => Integrity::LOW,
            false => Integrity::MEDIUM,
        };
        let label = label.min(maker.integrity).level();
        Ok(sddl + &format!("S:(ML;;NRNWNX;;;S-1-16-{label})"))
    }
}

/// [`Access::CURRENT_USER`].
impl Default for Access {
    fn default() -> Access {
        Access::CURRENT_USER
    }
}

/// One user, the members of one group, or one service.
///
/// A service's SID is that of `NT SERVICE\NAME`, which
/// [`Sid::from_account_name`](crate::Sid::from_account_name) looks up. The SID of an app package
/// isn't accepted: `bind` fails with [`InvalidInput`](io::ErrorKind::InvalidInput), because apps
/// can connect only if their user can, too. See [`Access::app_package`].
impl From<Sid> for Access {
    fn from(sid: Sid) -> Access {
        if sid.is_app_package() {
            return Access(Policy::Invalid(format!(
                "{sid} is an app package, and apps can connect only if their user can, too: \
                 call app_package on an access that names the users"
            )));
        }
        Access::of(Who::Sid(sid))
    }
}

/// Prints the access in words.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = match &self.0 {
            Policy::Rules(rules) => rules,
            Policy::Sddl(sddl) => return write!(f, "by the SDDL string {}", quote(sddl)),
            Policy::Invalid(message) => return write!(f, "invalid: {message}"),
        };
        for (at, who) in rules.who().enumerate() {
            if at > 0 {
                f.write_str(" or ")?;
            }
            match who {
                Who::CurrentUser => f.write_str("the current user")?,
                Who::LogonSession => f.write_str("this logon session")?,
                Who::Sid(Sid::AUTHENTICATED_USERS) => f.write_str("authenticated users")?,
                Who::Sid(Sid::EVERYONE) => f.write_str("everyone")?,
                Who::Sid(Sid::ADMINISTRATORS) => f.write_str("administrators")?,
                Who::Sid(group) if group.is_builtin_group() => {
                    write!(f, "the members of {group}")?;
                }
                Who::Sid(sid) => write!(f, "{sid}")?,
            }
        }
        match rules.terms.logons {
            Logons::Any => {}
            Logons::NotNetwork => f.write_str(", never over the network")?,
            Logons::Local => f.write_str(", logged on at this computer only")?,
        }
        if rules.terms.low_integrity {
            f.write_str(", also at low integrity")?;
        }
        for package in &rules.terms.app_packages {
            match package {
                &Sid::ALL_APP_PACKAGES => f.write_str(", also in any app package")?,
                package => write!(f, ", also in the app package {package}")?,
            }
        }
        Ok(())
    }
}

/// Granted rights, with one entry for each SID, in the order in which they were added.
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

/// What a server may do with the identity of a client that connects to it, in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[allow(clippy::enum_variant_names, reason = "they are Windows' names")]
pub enum Impersonation {
    /// The server can't find out the client's identity.
    Anonymous,
    /// The server can find out which user the client is, but can't act as that user. This is the
    /// default.
    #[default]
    Identification,
    /// The server can act as the client on this computer.
    Impersonation,
    /// The server can act as the client on other computers, too.
    Delegation,
}

impl Impersonation {
    /// Whether the server can act as the client.
    pub(crate) fn lets_act(self) -> bool {
        matches!(
            self,
            Impersonation::Impersonation | Impersonation::Delegation
        )
    }
}

/// The server that a client expects: the owner of the pipe that it connects to.
///
/// A program chooses its pipe's owner: the user that creates the pipe, or the administrators. Only
/// administrators can set another owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Server {
    /// The user that this thread acts as, in a process of medium integrity or above.
    ///
    /// A pipe with a lower integrity label, such as that of a browser's sandboxed process, is
    /// refused, unless this thread's own level is no higher than that. This includes pipes with
    /// [`Access::low_integrity`], because low-integrity processes can create instances of those;
    /// [`Server::Sid`] accepts them. This doesn't check elevation: the pipes of elevated and
    /// unelevated processes look the same.
    CurrentUser,
    /// The operating system or its administrators. The pipes of services that run as `LocalSystem`,
    /// and of elevated programs, may have such an owner.
    ///
    /// For a service that runs under another account, use [`Server::Sid`]. Do the same for an
    /// elevated program that creates its pipe with this crate, because the user owns that pipe,
    /// unless [`Access::sddl`] contains `O:BA`.
    System,
    /// This user or group, whatever the pipe's integrity label is.
    Sid(Sid),
}

impl Server {
    /// Fails if the pipe wasn't created by the expected server. `me` returns the client's own user
    /// and integrity level.
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
                // Pipes of processes above medium integrity have no label, either.
                if owner == user && label < integrity.min(Integrity::MEDIUM) {
                    return refused(format!(
                        "the pipe belongs to {owner} as expected, but its integrity label is \
                         {label:?}: a process of lower integrity than this one may have created it"
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
            "the pipe belongs to {owner}, not to {self:?} as expected"
        ))
    }
}

/// What a pipe's security descriptor says about the process that created it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    owner: Sid,
    /// Medium integrity if there is no label.
    label: Integrity,
}

impl Origin {
    /// Parses a descriptor in self-relative form.
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
                    let level = Sid::from_prefix(entry.get(8..)?)?.0.integrity()?;
                    // There should be only one. If there are several, take the lowest, to be safe,
                    // even if it's only inherited.
                    label = Some(label.map_or(level, |label: Integrity| label.min(level)));
                }
            }
        }
        let label = label.unwrap_or(Integrity::MEDIUM);
        let owner = Sid::from_prefix(descriptor.get(owner..)?)?.0;
        Some(Origin { owner, label })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The entries that keep the owner from changing the access rights, and also from reading them.
    const OWNER_RIGHTS: &str = "(A;;0x20000;;;S-1-3-4)";
    const STRANGERS: &str = "(D;;0x1f01ff;;;S-1-5-21-1-2-3-1001)(A;;0x20000;;;S-1-3-4)";

    fn sid(text: &str) -> Sid {
        text.parse().unwrap()
    }

    fn user() -> Sid {
        sid("S-1-5-21-1-2-3-1001")
    }

    /// An unelevated process of that user.
    fn maker() -> Maker<'static> {
        Maker {
            user: user(),
            integrity: Integrity::MEDIUM,
            logon: &|| Ok("S-1-5-5-0-77".parse()?),
            process: None,
            creator: user(),
        }
    }

    fn sddl(access: Access) -> String {
        access.to_sddl(&maker()).unwrap()
    }

    fn by(maker: Maker<'_>, access: Access) -> String {
        access.to_sddl(&maker).unwrap()
    }

    /// Returns a descriptor's entries between its owner and its label. The label must have this
    /// level.
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
        let group = sid("S-1-5-32-578");
        assert_eq!(
            dacl(&sddl(Access::CURRENT_USER.or(group).never_remote())),
            format!(
                "(D;;0x1f01ff;;;S-1-5-2)(A;;0x12019f;;;S-1-5-21-1-2-3-1001)\
                 (A;;0x12019b;;;S-1-5-32-578){OWNER_RIGHTS}"
            )
        );
        assert_eq!(
            dacl(&sddl(Access::CURRENT_USER.local_logon())),
            format!(
                "(D;;0x1f01ff;;;S-1-5-2)(D;;0x1f01ff;;;S-1-5-14)\
                 (A;;0x12019f;;;S-1-5-21-1-2-3-1001){OWNER_RIGHTS}"
            )
        );
        assert_eq!(
            low_dacl(&sddl(Access::EVERYONE.low_integrity())),
            format!(
                "(A;;0x12019b;;;S-1-1-0)(A;;0x12019f;;;S-1-5-21-1-2-3-1001)\
                 {OWNER_RIGHTS}"
            )
        );
        assert_eq!(
            low_dacl(&sddl(Access::CURRENT_USER.app_packages())),
            format!(
                "(A;;0x12019f;;;S-1-5-21-1-2-3-1001)(A;;0x12019b;;;S-1-15-2-1)\
                 {OWNER_RIGHTS}"
            )
        );
        let package = sid("S-1-15-2-1-2-3-4-5-6-7");
        assert_eq!(
            low_dacl(&sddl(Access::CURRENT_USER.app_package(package))),
            format!(
                "(A;;0x12019f;;;S-1-5-21-1-2-3-1001)\
                 (A;;0x12019b;;;S-1-15-2-1-2-3-4-5-6-7){OWNER_RIGHTS}"
            )
        );
    }

    #[test]
    fn the_stricter_restriction_holds_in_whatever_order() {
        let both = Access::EVERYONE.local_logon().never_remote();
        assert_eq!(both, Access::EVERYONE.never_remote().local_logon());
        assert_eq!(both, Access::EVERYONE.local_logon());
    }

    #[test]
    fn debug_says_an_access_in_words() {
        let package = sid("S-1-15-2-1-2-3-4-5-6-7");
        let service = sid("S-1-5-80-1-2-3-4-5");
        for (access, words) in [
            (Access::default(), "the current user"),
            (
                Access::CURRENT_USER.or(sid("S-1-5-32-578")).never_remote(),
                "the current user or the members of S-1-5-32-578, never over the network",
            ),
            (
                Access::LOGON_SESSION
                    .or(Access::ADMINISTRATORS)
                    .or(service)
                    .local_logon(),
                "this logon session or administrators or S-1-5-80-1-2-3-4-5, \
                 logged on at this computer only",
            ),
            (
                Access::AUTHENTICATED_USERS
                    .or(Access::EVERYONE)
                    .low_integrity()
                    .app_packages()
                    .app_package(package),
                "authenticated users or everyone, also at low integrity, also in any app package, \
                 also in the app package S-1-15-2-1-2-3-4-5-6-7",
            ),
            (
                Access::sddl("D:P(A;;FA;;;WD)"),
                "by the SDDL string \"D:P(A;;FA;;;WD)\"",
            ),
        ] {
            assert_eq!(format!("{access:?}"), words);
        }
    }

    #[test]
    fn restrictions_and_labels_hold_for_the_whole_or_the_access_is_invalid() {
        for access in [
            Access::CURRENT_USER.never_remote().or(Access::EVERYONE),
            Access::CURRENT_USER.or(Access::EVERYONE.never_remote()),
            Access::CURRENT_USER
                .local_logon()
                .or(Access::EVERYONE.never_remote()),
            Access::CURRENT_USER.low_integrity().or(Access::EVERYONE),
            Access::CURRENT_USER.app_packages().or(Access::EVERYONE),
            // An invalid access stays invalid.
            (Access::CURRENT_USER.low_integrity().or(Access::EVERYONE))
                .low_integrity()
                .or(Access::CURRENT_USER),
        ] {
            let error = access.to_sddl(&maker()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("call them last"), "{error}");
        }
        // If both sides are the same, there is no ambiguity.
        assert_eq!(
            Access::CURRENT_USER
                .never_remote()
                .or(Access::EVERYONE.never_remote()),
            Access::CURRENT_USER.or(Access::EVERYONE).never_remote()
        );
    }

    #[test]
    fn an_app_package_is_no_user_and_a_user_no_app_package() {
        for (access, what) in [
            (Access::from(Sid::ALL_APP_PACKAGES), "is an app package"),
            (
                Access::CURRENT_USER.or(sid("S-1-15-2-1-2-3-4-5-6-7")),
                "is an app package",
            ),
            (Access::EVERYONE.app_package(user()), "isn't an app package"),
            (
                Access::EVERYONE.app_package(sid("S-1-15-3-1")),
                "isn't an app package",
            ),
        ] {
            let error = access.to_sddl(&maker()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn a_logon_session_is_not_the_users_other_sessions() {
        assert_eq!(
            dacl(&sddl(Access::LOGON_SESSION)),
            format!("(A;;0x12019b;;;S-1-5-5-0-77)(A;;0x4;;;S-1-5-21-1-2-3-1001){STRANGERS}")
        );
        // Unless the access includes them, too.
        assert_eq!(
            dacl(&sddl(Access::LOGON_SESSION.or(Access::CURRENT_USER))),
            format!(
                "(A;;0x12019b;;;S-1-5-5-0-77)(A;;0x12019f;;;S-1-5-21-1-2-3-1001){OWNER_RIGHTS}"
            )
        );
    }

    #[test]
    fn only_the_servers_own_user_may_make_instances() {
        for access in [
            Access::AUTHENTICATED_USERS,
            Access::EVERYONE,
            Access::ADMINISTRATORS,
            Access::CURRENT_USER.app_packages(),
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
            dacl(&by(elevated(), Access::CURRENT_USER)),
            format!("(A;;0x12019b;;;S-1-5-21-1-2-3-1001)(A;;0x4;;;S-1-5-32-544){OWNER_RIGHTS}")
        );
        assert_eq!(
            dacl(&by(elevated(), Access::LOGON_SESSION)),
            format!("(A;;0x12019b;;;S-1-5-5-0-77)(A;;0x4;;;S-1-5-32-544){STRANGERS}")
        );
    }

    #[test]
    fn a_thread_that_impersonates_lets_the_process_itself_in_too() {
        let service = sid("S-1-5-20");
        let impersonating = || Maker {
            process: Some(sid("S-1-5-5-0-33")),
            creator: service,
            ..maker()
        };
        // The user owns the pipe and can connect. The process has the rights that `accept` needs.
        for (access, who) in [
            (Access::CURRENT_USER, "S-1-5-21-1-2-3-1001"),
            (Access::LOGON_SESSION, "S-1-5-5-0-77"),
            (Access::AUTHENTICATED_USERS, "S-1-5-11"),
        ] {
            let found = by(impersonating(), access.clone());
            let rest = match access == Access::CURRENT_USER {
                true => OWNER_RIGHTS,
                false => STRANGERS,
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
            labelled(&by(by_me(), Access::CURRENT_USER), level);
            labelled(
                &by(by_me(), Access::CURRENT_USER.low_integrity()),
                low_level,
            );
        }
    }

    #[test]
    fn sddl_is_taken_to_the_letter_and_not_combined() {
        let own = Access::sddl("D:P(A;;FA;;;WD)");
        assert_eq!(sddl(own.clone()), "D:P(A;;FA;;;WD)");
        for combined in [
            own.clone().or(Access::EVERYONE),
            Access::EVERYONE.or(own.clone()),
            own.clone().never_remote(),
            own.clone().local_logon(),
            own.clone().low_integrity(),
            own.app_packages(),
        ] {
            let error = combined.to_sddl(&maker()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("D:P(A;;FA;;;WD)"), "{error}");
        }
    }

    #[test]
    fn sddl_with_a_nul_is_refused_and_not_cut_off() {
        let cut = "D:P(A;;FA;;;WD)\0(D;;FA;;;NU)";
        let error = Access::sddl(cut).to_sddl(&maker()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("NUL"), "{error}");
    }

    #[test]
    fn bad_sddl_is_quoted_by_its_beginning() {
        let long = format!("D:P{}", "(A;;FA;;;WD)".repeat(100_000));
        for access in [
            Access::sddl(long.clone() + "\0"),
            Access::sddl(long).or(Access::EVERYONE),
        ] {
            let error = access.to_sddl(&maker()).unwrap_err().to_string();
            assert!(error.contains("D:P(A;;FA;;;WD)("), "{error}");
            assert!(error.chars().count() < 400, "{error}");
        }
    }

    #[test]
    fn access_that_is_combined_without_end_has_each_once() {
        // On a stack that is too small for 100,000 nested calls.
        let small = std::thread::Builder::new().stack_size(64 << 10);
        let test = || {
            let mut left = Access::EVERYONE;
            let mut right = Access::EVERYONE;
            for part in 0..100_000 {
                let part = match part % 2 {
                    0 => Access::CURRENT_USER,
                    _ => Access::ADMINISTRATORS,
                };
                left = left.or(part.clone());
                right = right.clone().or(right).or(part);
            }
            assert_eq!(left, right);
            let access = left.low_integrity().never_remote();
            assert_eq!(
                format!("{access:?}"),
                "everyone or the current user or administrators, \
                 never over the network, also at low integrity"
            );
            assert_eq!(
                low_dacl(&sddl(access)),
                format!(
                    "(D;;0x1f01ff;;;S-1-5-2)(A;;0x12019b;;;S-1-1-0)\
                     (A;;0x12019f;;;S-1-5-21-1-2-3-1001)(A;;0x12019b;;;S-1-5-32-544)\
                     {OWNER_RIGHTS}"
                )
            );
        };
        small.spawn(test).unwrap().join().unwrap();
    }

    /// A descriptor in self-relative form, with these entries in its SACL.
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
            // Truncated anywhere, it's malformed: its last byte is part of what it describes.
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
            // The pipe of a high-integrity process has no label, just like an ordinary process's.
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
            // And a descriptor with one byte changed.
            let mut nearly = descriptor(user(), &[entry(0x11, 0, &format!("S-1-16-{label}"))]);
            if let Some(one) = nearly.get_mut(cut) {
                *one = byte;
            }
            let _ = Origin::from_bytes(&nearly);
        }
    }
}
