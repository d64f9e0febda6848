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
#[cfg(test)]
mod tests;

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
/// don't. Unless [`sddl`](Self::sddl) allows it, no user can change a pipe's access rights, not even
/// its owner.
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
