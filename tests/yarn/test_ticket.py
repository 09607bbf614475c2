"""The Kerberos ticket against the time-out, with real tickets of a real KDC on loopback."""

import dataclasses
import os
import shutil
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dkeras_core.errors import ClusterError, ConfigError
from dkeras_core.singlenode import ports
from dkeras_core.yarn import doctor, ticket
from dkeras_core.yarn.hadoop_config import HadoopConfig

REALM = "EXAMPLE.TEST"
SECURED = HadoopConfig(Path("/etc/hadoop/conf"), {"hadoop.security.authentication": "kerberos"})
OPEN = HadoopConfig(Path("/etc/hadoop/conf"), {})
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TOOLS = {"kinit": "krb5-user", "krb5kdc": "krb5-kdc", "kdb5_util": "krb5-kdc", "kadmin.local": "krb5-kdc"}
PATH = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
CLIENTS = """
[libdefaults]
 default_realm = {realm}
 udp_preference_limit = 1
 rdns = false
 dns_canonicalize_hostname = false
 dns_lookup_kdc = false
[realms]
 {realm} = {{
  kdc = 127.0.0.1:{port}
 }}
"""
SERVER = """
[kdcdefaults]
 kdc_listen = ""
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {realm} = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
  max_life = 12h
  max_renewable_life = 8d
 }}
"""


@pytest.fixture(scope="module")
def kdc(tmp_path_factory):
    """A KDC with alice and bob (password "wonder"), and keytabs; returns its folder and its environment."""
    absent = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool, path=PATH)})
    if absent:
        pytest.skip(f"a KDC needs the packages {', '.join(absent)}")
    folder, port = tmp_path_factory.mktemp("kdc"), ports.pick(["kdc"])["kdc"]
    for name, text in (("krb5.conf", CLIENTS), ("kdc.conf", SERVER)):
        (folder / name).write_text(text.format(realm=REALM, port=port, folder=folder))
    environment = {"PATH": PATH, "KRB5_CONFIG": f"{folder}/krb5.conf", "KRB5_KDC_PROFILE": f"{folder}/kdc.conf"}

    def call(*argv):
        subprocess.run(argv, env={**os.environ, **environment}, check=True, capture_output=True, timeout=60)

    call("kdb5_util", "-r", REALM, "create", "-s", "-P", "secret")
    for name in ("alice", "bob"):
        call("kadmin.local", "-q", f"addprinc -pw wonder {name}")
        call("kadmin.local", "-q", f"ktadd -norandkey -k {folder}/{name}.keytab {name}")
    program = shutil.which("krb5kdc", path=PATH)
    server = subprocess.Popen([program, "-n"], env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline and server.poll() is None
                time.sleep(0.05)
        yield folder, environment
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def login(kdc, tmp_path, monkeypatch):
    """``login("-l", "1h")`` gets alice a ticket in a cache of this test alone, which is empty until then."""
    for name, value in kdc[1].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/cache")
    monkeypatch.setattr(ticket, "_looked", float("-inf"))

    def call(*options, principal="alice"):
        subprocess.run(["kinit", *options, principal], input="wonder\n", text=True, check=True, capture_output=True)
        return ticket.current()

    return call


def refused(limit, conf=None, config=SECURED):
    with pytest.raises(ConfigError) as caught:
        ticket.must_outlive(config, conf or {}, limit)
    return caught.value


def with_keytab(folder, principal="alice", name="alice.keytab"):
    return {ticket.PRINCIPAL: principal, ticket.KEYTAB: f"{folder}/{name}"}


@pytest.mark.slow
def test_a_ticket_is_read_with_its_times(login):
    found = login("-l", "3h", "-r", "2d")
    now = datetime.now(UTC)
    assert found.principal == f"alice@{REALM}" and found.cache == os.environ["KRB5CCNAME"]
    assert abs(found.begins - now) < timedelta(minutes=2)
    assert found.ends - found.begins == 3 * HOUR and found.renewable_until - found.begins == 2 * DAY
    assert login("-l", "2h").renewable_until is None


@pytest.mark.slow
def test_doctor_says_when_the_ticket_ends(login):
    around = doctor.Surroundings(SECURED, storage=None, rm=None, build=Path("/tmp"))
    with pytest.raises(ClusterError, match="no valid ticket"):
        doctor._ticket(around)
    found = login("-l", "3h")
    check = doctor._ticket(around)
    assert (check.state, check.what) == ("ok", f"the ticket of alice@{REALM} ends {found.ends:%Y-%m-%d %H:%M:%S} UTC")


@pytest.mark.slow
def test_a_ticket_that_lasts_is_enough(login):
    login("-l", "3h")
    ticket.must_outlive(SECURED, {}, 2 * HOUR)
    ticket.must_outlive(SECURED, {}, None)


@pytest.mark.slow
def test_a_ticket_that_is_too_short_is_refused_with_the_commands_that_help(login):
    found = login("-l", "3h")
    error = refused(6 * HOUR)
    assert f"ticket of alice@{REALM} ends {found.ends:%Y-%m-%d %H:%M:%S} UTC, not renewable" in error.what
    assert f"`kinit -l 7h -r 7d alice@{REALM}`" in error.next_step and ticket.KEYTAB in error.next_step
    assert os.environ["KRB5CCNAME"] in error.next_step
    assert "may take until" in refused(3 * HOUR).what, "the margin for clocks that differ and for the end counts"


@pytest.mark.slow
def test_a_ticket_that_can_be_renewed_so_long_is_enough(login):
    login("-l", "3h", "-r", "2d")
    ticket.must_outlive(SECURED, {}, 40 * HOUR)
    assert "renewable until" in refused(49 * HOUR).what


@pytest.mark.slow
def test_no_ticket_and_one_that_has_ended_are_refused(login):
    assert "there is none" in refused(HOUR).what
    login("-l", "2s", "-r", "1d")
    deadline = time.monotonic() + 30
    while ticket.current().lasts > timedelta(0):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    error = refused(None)
    assert f"alice@{REALM}" in error.what and "ended" in error.what, "an ended one cannot be renewed either"
    assert "`kinit -l 1h" in error.next_step


@pytest.mark.slow
def test_without_a_keytab_the_tokens_must_last_too(login):
    login("-l", "10h", "-r", "8d")
    assert "7 days" in refused(7.5 * DAY).what
    properties = SECURED.properties | {"dfs.namenode.delegation.token.max-lifetime": "7200000"}
    error = refused(3 * HOUR, config=dataclasses.replace(SECURED, properties=properties))
    assert "2:00:00" in error.what and ticket.KEYTAB in error.next_step


@pytest.mark.slow
def test_a_keytab_makes_the_ticket_where_there_is_none_and_where_it_is_short(login, kdc):
    conf = with_keytab(kdc[0])
    ticket.must_outlive(SECURED, conf, 6 * HOUR)
    first = ticket.current()
    assert first.principal == f"alice@{REALM}" and first.lasts_renewed() > 6 * DAY
    ticket.must_outlive(SECURED, conf, 6 * HOUR)
    assert ticket.current() == first, "it lasts"
    login("-l", "2h")
    ticket.must_outlive(SECURED, conf | {ticket.PRINCIPAL: f"alice@{REALM}"}, 6 * HOUR)
    assert ticket.current().lasts_renewed() > 6 * DAY


@pytest.mark.slow
def test_a_keytab_does_not_take_the_cache_of_somebody_else(login, kdc):
    login("-l", "2h", principal="bob")
    ticket.must_outlive(SECURED, with_keytab(kdc[0]), 6 * HOUR)
    assert ticket.current().principal == f"bob@{REALM}"


@pytest.mark.slow
def test_a_keytab_that_cannot_outlive_the_work_is_told(login, kdc):
    said = []
    ticket.must_outlive(SECURED, with_keytab(kdc[0]), 8 * DAY, said.append)
    assert len(said) == 1 and "before the time-out" in said[0] and "k5start" in said[0]


@pytest.mark.slow
def test_a_keytab_that_does_not_serve_is_refused(login, kdc):
    assert "does not exist" in refused(HOUR, with_keytab(kdc[0], name="gone.keytab")).what
    error = refused(HOUR, with_keytab(kdc[0], name="bob.keytab"))
    assert "gives no ticket for alice" in error.what and "klist -k" in error.next_step
    assert "only one of" in refused(HOUR, {ticket.KEYTAB: f"{kdc[0]}/alice.keytab"}).what


@pytest.mark.slow
def test_a_ticket_is_renewed_once_half_of_it_is_over(login, monkeypatch):
    early = login("-l", "1h", "-r", "1d")
    ticket.keep(SECURED)
    assert ticket.current() == early
    monkeypatch.setattr(ticket, "_looked", float("-inf"))
    short = login("-l", "10s", "-r", "1d")
    deadline = time.monotonic() + 30
    while ticket.current().lasts > timedelta(seconds=5):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    ticket.keep(SECURED)
    assert ticket.current().ends > short.ends
    kept = ticket.current()
    time.sleep(1.1)
    ticket.keep(SECURED)
    assert ticket.current() == kept, "it looks only now and then"


@pytest.mark.slow
def test_a_renewal_that_fails_is_told(login, monkeypatch, tmp_path):
    login("-l", "10s", "-r", "1d")
    (tmp_path / "krb5.conf").write_text(CLIENTS.format(realm=REALM, port=ports.pick(["kdc"])["kdc"]))
    monkeypatch.setenv("KRB5_CONFIG", str(tmp_path / "krb5.conf"))
    said, deadline = [], time.monotonic() + 30
    while not said:
        assert time.monotonic() < deadline
        monkeypatch.setattr(ticket, "_looked", float("-inf"))
        ticket.keep(SECURED, said.append)
        time.sleep(0.2)
    assert f"alice@{REALM}" in said[0] and "was not renewed: kinit" in said[0]


def test_a_cluster_without_kerberos_is_not_asked_about(monkeypatch):
    monkeypatch.setattr(ticket, "_run", None)
    ticket.must_outlive(OPEN, {}, HOUR)
    ticket.keep(OPEN)


def test_where_there_is_no_klist_that_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    said = []
    ticket.must_outlive(SECURED, {}, HOUR, said.append)
    assert "klist is not installed" in said[0]
    ticket.keep(SECURED)


@pytest.mark.parametrize("text", ["", "Ticket cache: KCM:0\nDefault principal: a@B\n", "Credentials cache: FILE:/x"])
def test_what_klist_says_is_understood_or_refused(text):
    if "Default" in text:
        assert ticket.parse(text) is None
    else:
        with pytest.raises(ConfigError, match="not understood"):
            ticket.parse(text)


def test_only_the_ticket_of_the_own_realm_counts():
    found = ticket.parse(
        "Ticket cache: KEYRING:persistent:0:0\nDefault principal: etl/edge@B\n\n"
        "Valid starting     Expires            Service principal\n"
        "11/23/26 05:51:22  11/23/26 06:51:22  krbtgt/A@B\n\trenew until 11/25/26 05:51:22\n"
        "11/23/2026 05:51:22  11/23/2026 07:51:22  krbtgt/B@B\n\trenew until 11/26/2026 05:51:22\n"
        "11/23/26 05:51:22  11/23/26 09:51:22  nn/host@B\n"
    )
    assert found.ends == datetime(2026, 11, 23, 7, 51, 22, tzinfo=UTC) and found.principal == "etl/edge@B"
    assert found.renewable_until == datetime(2026, 11, 26, 5, 51, 22, tzinfo=UTC)
