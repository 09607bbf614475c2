"""The Kerberos login of whoever submits and follows applications: does it last as long as the work may take?

In cluster mode an application needs no ticket once it is submitted. It goes on with the delegation tokens that it was
given, which YARN renews up to a greatest age (7 days unless the NameNode says otherwise); with a keytab Spark fetches
new ones. Who follows the application and may have to kill it asks HDFS and YARN over REST, and needs a ticket to the
end. So with a ticket alone both must outlive the work, and with a keytab the ticket is made from that.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dkeras_core.errors import ConfigError
from dkeras_core.yarn.hadoop_config import HadoopConfig

Say = Callable[[str], None]
PRINCIPAL, KEYTAB = "spark.kerberos.principal", "spark.kerberos.keytab"
MARGIN = timedelta(minutes=5)
"""Clocks differ, and what has timed out must still be killed."""

_TOKENS = ("dfs.namenode.delegation.token.max-lifetime", timedelta(days=7))
_RENEWABLE = "7d"
_LOOK_AGAIN = 300.0  # seconds
_PATIENCE = 30.0  # seconds, with a KDC that does not answer
_DATES = ("%m/%d/%y %H:%M:%S", "%m/%d/%Y %H:%M:%S")
_TITLES = ("Ticket cache", "Default principal")
_TICKET = re.compile(r"^(?P<begin>\S+ \S+)  +(?P<end>\S+ \S+)  +krbtgt/(?P<realm>\S+)@(?P=realm)$", re.MULTILINE)
_UNTIL = re.compile(r"\n\trenew until (?P<until>\d\S+ [\d:]+)")


@dataclass(frozen=True)
class Ticket:
    """The ticket-granting ticket of a cache; times are in UTC, ``renewable_until`` None where it cannot be renewed."""

    cache: str
    principal: str
    begins: datetime
    ends: datetime
    renewable_until: datetime | None = None

    @property
    def lasts(self) -> timedelta:
        """How long it still holds, negative when it has ended."""
        return self.ends - datetime.now(UTC)

    def lasts_renewed(self) -> timedelta:
        """The same when it is renewed as long as it can be; an ended one cannot."""
        until = self.renewable_until if self.lasts > timedelta(0) else None
        return max(self.ends, until or self.ends) - datetime.now(UTC)


def current() -> Ticket | None:
    """Return the ticket of the cache that KRB5CCNAME or krb5.conf names, also when it has ended; None without one.

    Raises
    ------
    ConfigError
        ``klist`` is not installed, or says what is not understood.
    """
    if not installed():
        raise ConfigError("klist is not installed, so no ticket can be looked at", "install krb5-user")
    done = _run("klist")
    if done.returncode:
        return None
    return parse(done.stdout)


def parse(text: str) -> Ticket | None:
    """Return the ticket of the principal's own realm in what MIT's klist prints under LC_ALL=C and TZ=UTC."""
    cache, principal = (re.search(rf"^{title}: (.+)$", text, re.MULTILINE) for title in _TITLES)
    if not cache or not principal:
        raise ConfigError(f"klist has answered what is not understood: {text[:200]!r}", "install MIT's krb5-user")
    realm = principal[1].rpartition("@")[2]
    for found in _TICKET.finditer(text):
        if found["realm"] == realm:
            until = _UNTIL.match(text, found.end())
            return Ticket(
                cache[1], principal[1], _moment(found["begin"]), _moment(found["end"]),
                _moment(until["until"]) if until else None,
            )  # fmt: skip
    return None


def installed() -> bool:
    return shutil.which("klist") is not None


def must_outlive(config: HadoopConfig, conf: Mapping[str, object], limit: timedelta | None, say: Say = print) -> None:
    """See to it that the login lasts for ``limit`` from now on; a cluster without Kerberos needs none.

    A ticket that can be renewed long enough is renewed when it is needed (:func:`keep`); with a keytab a new one is
    made where the cache has none, or one of the same principal that is too short.

    Parameters
    ----------
    conf : mapping
        The pipeline's further Spark settings, which may name principal and keytab.
    limit : timedelta, optional
        The time-out of the work; None asks for a ticket that is valid now.

    Raises
    ------
    ConfigError
        With the cause and the commands that help.
    """
    if not config.secured:
        return
    if not installed():
        say("klist is not installed: whether the Kerberos ticket outlives the time-out is not known (krb5-user has it)")
        return
    principal, keytab = (str(conf[key]) if conf.get(key) else None for key in (PRINCIPAL, KEYTAB))
    if (principal is None) != (keytab is None):
        raise ConfigError(f"only one of {PRINCIPAL} and {KEYTAB} is set in resources.conf", "set both, or none")
    needed = (limit or timedelta(0)) + MARGIN
    if keytab:
        _of_keytab(principal, keytab, needed, say)
    else:
        _of_cache(config, needed, limit)


def keep(config: HadoopConfig, say: Say = print) -> None:
    """Renew the ticket once half of its time is over; call it as often as you like, it looks every five minutes.

    A renewal that fails is told and tried again: the ticket holds for a while.
    """
    global _looked
    if not config.secured or time.monotonic() - _looked < _LOOK_AGAIN or not installed():
        return
    _looked = time.monotonic()
    ticket = current()
    if ticket is None or ticket.lasts > (ticket.ends - ticket.begins) / 2 or ticket.lasts_renewed() <= ticket.lasts:
        return
    done = _run("kinit", "-R")
    if done.returncode:
        said = done.stderr.strip()
        say(f"the Kerberos ticket of {ticket.principal}, which ends {_utc(ticket.ends)}, was not renewed: {said}")


_looked = float("-inf")


def _of_keytab(principal: str, keytab: str, needed: timedelta, say: Say) -> None:
    """Spark renews the application's own login; the one of this process is made from the keytab where it has to be."""
    if not os.access(keytab, os.R_OK):
        there = "cannot be read by this user" if Path(keytab).exists() else "does not exist on this machine"
        raise ConfigError(f"the keytab {keytab} {there}", f"correct {KEYTAB} in resources.conf, or the file's rights")
    ticket = current()
    valid = ticket is not None and ticket.lasts > timedelta(0)
    if valid and (ticket.principal != _full(principal, ticket) or ticket.lasts_renewed() >= needed):
        return
    done = _run("kinit", "-k", "-t", keytab, "-r", _RENEWABLE, principal)
    if done.returncode:
        raise ConfigError(
            f"the keytab {keytab} gives no ticket for {principal}: {done.stderr.strip()}",
            f"`klist -k {keytab}` shows whose keys it holds",
        )
    made = current()
    if made is None or made.lasts_renewed() < needed:
        ends = f"ends {_utc(made.ends)}" if made else "is not there"
        say(f"the ticket from {keytab} {ends}, before the time-out: keep it alive by `k5start -K 60 -f {keytab} -U`")


def _of_cache(config: HadoopConfig, needed: timedelta, limit: timedelta | None) -> None:
    ticket, hours = current(), max(1, -(-needed // timedelta(hours=1)))
    keytab = f"{PRINCIPAL} and {KEYTAB} in resources.conf let Spark log in by itself"
    if ticket is None or ticket.lasts <= timedelta(0):
        ended = f"that of {ticket.principal} in {ticket.cache} ended {_utc(ticket.ends)}" if ticket else "there is none"
        raise ConfigError(
            f"the cluster asks for a Kerberos ticket, and {ended}",
            f"`kinit -l {hours}h -r {_RENEWABLE} PRINCIPAL` as {_user()}, or: {keytab}",
        )
    if limit is None:
        return
    if ticket.lasts_renewed() < needed:
        renewable = f", renewable until {_utc(ticket.renewable_until)}" if ticket.renewable_until else ", not renewable"
        raise ConfigError(
            f"the Kerberos ticket of {ticket.principal} ends {_utc(ticket.ends)}{renewable}, "
            f"and the work may take until {_utc(datetime.now(UTC) + limit)}",
            f"`kinit -l {hours}h -r {_RENEWABLE} {ticket.principal}` as {_user()}, or a shorter time-out, or: {keytab}",
        )
    name, usual = _TOKENS
    oldest = timedelta(milliseconds=int(config.get(name) or usual / timedelta(milliseconds=1)))
    if limit > oldest:
        raise ConfigError(
            f"the work may take {limit}, and without a keytab its tokens of HDFS end after {oldest} ({name})",
            f"{keytab}; or a shorter time-out",
        )


def _full(principal: str, ticket: Ticket) -> str:
    return principal if "@" in principal else f"{principal}@{ticket.principal.rpartition('@')[2]}"


def _user() -> str:
    return f"the user of the process (uid {os.getuid()}, KRB5CCNAME={os.environ.get('KRB5CCNAME', 'not set')})"


def _moment(text: str) -> datetime:
    for form in _DATES:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise ConfigError(f"klist has printed the time {text!r}, which is not understood", "install MIT's krb5-user")


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    try:
        return subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"no answer within {_PATIENCE:g} s")
