"""Who may do what by a security descriptor, as Samba's access check says.

Reads descriptors in SDDL, one a line. Writes one line with the names of the principals below, and then
one line for each descriptor with what each of them may do, all with tabs between. A cell is some of

  c  connect: read and write (0x12019b)
  i  make an instance that can do so, too (0x12019f)
  x  only make an instance that can't (0x4)
  p  only open it for a part of that, which takes an instance, too
  d  change the access rights (WRITE_DAC)
  o  take the pipe's ownership (WRITE_OWNER)

The access rights are Samba's business. Samba 4.17 knows nothing of integrity labels, which have nothing
to do with the rest: that rule stands below, after [MS-DTYP] 2.5.3.3.
"""

import re
import sys

from samba import NTSTATUSError
from samba.dcerpc import security
from samba.security import access_check

UNTRUSTED, LOW, MEDIUM, HIGH, SYSTEM = 0x0000, 0x1000, 0x2000, 0x3000, 0x4000

DOMAIN = "S-1-5-21-1-2-3"
USER, OTHER = DOMAIN + "-1001", DOMAIN + "-1002"
EVERYONE, LOCAL, NETWORK, INTERACTIVE = "S-1-1-0", "S-1-2-0", "S-1-5-2", "S-1-5-4"
ANONYMOUS, AUTHENTICATED, REMOTE_DESKTOP = "S-1-5-7", "S-1-5-11", "S-1-5-14"
ADMINISTRATORS, USERS, GUESTS = "S-1-5-32-544", "S-1-5-32-545", "S-1-5-32-546"
# The server's logon session, and others.
SESSION, SECOND, THIRD = "S-1-5-5-0-77", "S-1-5-5-0-78", "S-1-5-5-0-79"

ORDINARY = [EVERYONE, USERS, AUTHENTICATED]
AT_THE_DESK = ORDINARY + [INTERACTIVE, LOCAL]

# The identifiers that count for each, the user first; the integrity level; the privileges. An identifier
# that only denies is left out, as no descriptor denies anything to it.
PRINCIPALS = [
    ("self", [USER, SESSION] + AT_THE_DESK, MEDIUM, []),
    ("self, elevated", [USER, SESSION, ADMINISTRATORS] + AT_THE_DESK, HIGH,
     [security.SEC_PRIV_TAKE_OWNERSHIP]),
    ("self, other session", [USER, SECOND] + AT_THE_DESK, MEDIUM, []),
    ("self, over the network", [USER, THIRD, NETWORK] + ORDINARY, MEDIUM, []),
    ("self, remote desktop", [USER, THIRD, REMOTE_DESKTOP] + AT_THE_DESK, MEDIUM, []),
    ("self, low integrity", [USER, SESSION] + AT_THE_DESK, LOW, []),
    ("another user", [OTHER, SECOND] + AT_THE_DESK, MEDIUM, []),
    ("runas in the session", [OTHER, SESSION] + AT_THE_DESK, MEDIUM, []),
    ("administrator", [DOMAIN + "-500", SECOND, ADMINISTRATORS] + AT_THE_DESK, HIGH,
     [security.SEC_PRIV_TAKE_OWNERSHIP]),
    ("system", ["S-1-5-18", ADMINISTRATORS, EVERYONE, AUTHENTICATED], SYSTEM,
     [security.SEC_PRIV_TAKE_OWNERSHIP]),
    ("anonymous", [ANONYMOUS, NETWORK], UNTRUSTED, []),
    ("guest", [DOMAIN + "-501", SECOND, EVERYONE, GUESTS, INTERACTIVE, LOCAL], MEDIUM, []),
]

CONNECT, CREATE_INSTANCE, WRITE_DAC, WRITE_OWNER = 0x12019B, 0x4, 0x40000, 0x80000
# All but those that have a letter of their own.
PARTS = {1 << bit for bit in range(21)} - {CREATE_INSTANCE, WRITE_DAC, WRITE_OWNER}
# What generic reading, writing and executing are of a pipe.
GENERIC = {"NR": 0x120089, "NW": 0x120116, "NX": 0x1200A0}


def token(sids, privileges):
    token = security.token()
    token.sids = [security.dom_sid(sid) for sid in sids]
    token.num_sids = len(sids)
    for privilege in privileges:
        token.set_privilege(privilege)
    return token


def parse(sddl):
    """The descriptor without its label; the label and its policies."""
    sddl, _, label = sddl.partition("S:")
    level, policies = MEDIUM, ["NW"]
    if label:
        policies, level = re.fullmatch(r"\(ML;;(\w+);;;S-1-16-(\d+)\)", label).groups()
        policies, level = re.findall("..", policies), int(level)
    descriptor = security.descriptor.from_sddl(sddl, security.dom_sid(DOMAIN))
    # That Samba understood the same entries as Windows will.
    said = re.findall(r"\(([AD]);;(0x[0-9a-f]+);;;(S-[-0-9]+)\)", sddl)
    kinds = {security.SEC_ACE_TYPE_ACCESS_ALLOWED: "A", security.SEC_ACE_TYPE_ACCESS_DENIED: "D"}
    entries = [(kinds[e.type], hex(e.access_mask), str(e.trustee)) for e in descriptor.dacl.aces]
    assert said == entries and len(said) == sddl.count("("), (sddl, entries)
    return descriptor, level, policies


def may(descriptor, level, policies, principal, rights):
    _, sids, own_level, privileges = principal
    if own_level < level:
        allowed = 0
        for policy, generic in GENERIC.items():
            allowed |= 0 if policy in policies else generic
        if rights & ~allowed:
            return False
    try:
        return access_check(descriptor, token(sids, privileges), rights) & rights == rights
    except NTSTATUSError:
        return False


def cell(parsed, principal):
    def asked(rights):
        return may(*parsed, principal, rights)

    found = ""
    if asked(CONNECT):
        found += "c"
    elif any(asked(part) for part in PARTS):
        found += "p"
    if asked(CONNECT | CREATE_INSTANCE):
        found += "i"
    elif asked(CREATE_INSTANCE):
        found += "x"
    if asked(WRITE_DAC):
        found += "d"
    if asked(WRITE_OWNER):
        found += "o"
    return found


print("\t".join(name for name, *_ in PRINCIPALS))
for line in sys.stdin:
    parsed = parse(line.strip())
    print("\t".join(cell(parsed, principal) for principal in PRINCIPALS))
