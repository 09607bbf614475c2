"""Who may do what in a registry on real HDFS: a table of deeds and users, each combination tried.

The users are those of deploy/hadoop/conf/core-site.xml.j2: without an account, with groups that the NameNode knows.
"""

import contextlib
import secrets
import shlex
import shutil
from datetime import timedelta

import pytest

from dkeras_core.errors import AccessDenied, StorageError
from dkeras_core.registry import Registry, collect, permissions
from dkeras_core.singlenode import configuration
from dkeras_core.storage.access import group_may, symbolic
from dkeras_core.storage.webhdfs import WebHdfsStorage

pytestmark = pytest.mark.cluster

GROUPS = {"publishers": "dkeras-publishers", "operators": "dkeras-operators"}
PUBLISHERS = {"trainer", "trainer2"}
OPERATORS = {"operator", "operator2"}
USERS = ["trainer", "trainer2", "operator", "operator2", "reader"]
ALL, NOBODY = set(USERS), set()


@contextlib.contextmanager
def acting(user):
    """What goes into the audit as the user's name."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HADOOP_USER_NAME", user)
        yield


class Site:
    """A registry of its own, as seen by several users; "keeper" owns its folders."""

    def __init__(self, webhdfs, folder):
        self.admin, self.folder = webhdfs, folder
        self.root = f"/tmp/shared-{secrets.token_hex(4)}"
        permissions.init(self.as_("admin"), **GROUPS, owner="keeper")

    def as_(self, user):
        storage = self.admin if user == "admin" else WebHdfsStorage(self.admin.url, user=user, failover=5)
        return Registry(storage, self.root)

    def model(self, name):
        """Versions 1 and 2 by trainer, of which operator has promoted the first; and things under way."""
        setup = permissions.init(self.as_("admin"), name)
        assert not setup.left
        trainer, operator = self.as_("trainer"), self.as_("operator")
        for run in ("r1", "r2"):
            trainer.publish(name, self.folder, run_id=run)
        with acting("operator"):
            operator.promote(name, 1, "production")
        trainer.storage.write_bytes(f"{trainer.layout.versions(name)}/.staging-x/file", b"-")
        operator.storage.mkdirs(operator.layout.staged(name, "x"), mode=0o775)
        operator.storage.write_bytes(f"{operator.layout.staged(name, 'x')}/content", b"-")
        operator.storage.write_bytes(f"{operator.layout.leases(name)}/old", b"-", mode=0o644)
        return name


@pytest.fixture(scope="module")
def site(webhdfs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("version")
    (folder / "model.keras").write_bytes(b"weights")
    (folder / "variables").mkdir()
    (folder / "variables/data").write_bytes(b"more")
    made = Site(webhdfs, folder)
    yield made
    webhdfs.delete(made.root, recursive=True)


@pytest.fixture(scope="module")
def untouched(site):
    """A model on which only what must fail is tried, and the picture of it."""
    return site.model("untouched"), picture(site)


def picture(site):
    """Everything below the root: path, owner, group, mode, size."""

    def walk(path):
        for status in site.admin.list(path):
            yield status.path, status.owner, status.group, status.mode, status.size
            if status.is_dir:
                yield from walk(status.path)

    return [each for each in walk(site.root) if "/models/untouched" in each[0]]


def read_all(r, m):
    version = r.version(m, "production")
    assert version.verify() == [] and r.history(m)[0].applied and version.manifest().user
    assert [f for f in permissions.doctor(r, m) if f.level == "error"] == []


def audit_entry(r, m):
    (entry,) = r.storage.list(r.layout.audit(m))
    return entry.path


def replace_page(r, m):
    r.storage.write_atomic(r.layout.index(), b"<html>", mode=0o644)


def versions(r, m):
    return r.layout.versions(m)


# What somebody may want to do: the deed, and who may.
DEEDS = {
    "read and verify all": (read_all, ALL),
    "publish": (lambda r, m: r.publish(m, r.folder, run_id=secrets.token_hex(4)), PUBLISHERS),
    "promote": (lambda r, m: r.promote(m, 2, "production"), OPERATORS),
    "promote to a new alias": (lambda r, m: r.promote(m, 2, "staging"), OPERATORS),
    "make a model": (lambda r, m: permissions.init(r, f"m-{secrets.token_hex(4)}").left or None, OPERATORS),
    "replace the page": (replace_page, OPERATORS),
    "write the catalog": (lambda r, m: r.storage.write_atomic(r.layout.catalog(m), b"{}", mode=0o644), PUBLISHERS),
    "point an alias by hand": (lambda r, m: r.storage.write_atomic(r.layout.alias(m, "production"), b"2\n"), OPERATORS),
    "delete an alias": (lambda r, m: r.storage.delete(r.layout.alias(m, "production")), OPERATORS),
    "fence": (lambda r, m: r.storage.delete(r.layout.staged(m, "x"), recursive=True), OPERATORS),
    "end an old lease": (lambda r, m: r.storage.delete(f"{r.layout.leases(m)}/old"), OPERATORS),
    "clear another's staging": (lambda r, m: r.storage.delete(f"{versions(r, m)}/.staging-x", True), {"trainer"}),
    "change a file of a version": (
        lambda r, m: r.storage.write_bytes(f"{versions(r, m)}/1/model.keras", b"-", overwrite=True),
        NOBODY,
    ),
    "replace a file of a version": (
        lambda r, m: r.storage.replace(f"{versions(r, m)}/1/manifest.sha256", f"{versions(r, m)}/1/model.keras"),
        NOBODY,
    ),
    "add to a version": (lambda r, m: r.storage.write_bytes(f"{versions(r, m)}/1/more", b"-"), NOBODY),
    "delete from a version": (lambda r, m: r.storage.delete(f"{versions(r, m)}/1/model.keras"), NOBODY),
    "delete a version": (lambda r, m: r.storage.delete(f"{versions(r, m)}/1", recursive=True), NOBODY),
    # Whose a file is, may change its mode: docs/permissions.md says what finds that.
    "move a version away": (lambda r, m: r.storage.rename(f"{versions(r, m)}/1", f"{versions(r, m)}/.x"), {"trainer"}),
    "open a version": (lambda r, m: r.storage.set_mode(f"{versions(r, m)}/1", 0o777), {"trainer"}),
    "change the audit": (lambda r, m: r.storage.write_bytes(audit_entry(r, m), b"-", overwrite=True), NOBODY),
    "delete from the audit": (lambda r, m: r.storage.delete(audit_entry(r, m)), {"operator"}),
    "move from the audit": (lambda r, m: r.storage.rename(audit_entry(r, m), r.layout.audit(m) + "/x"), {"operator"}),
    "move all versions away": (lambda r, m: r.storage.rename(versions(r, m), r.layout.model(m) + "/x"), NOBODY),
    "move the audit away": (lambda r, m: r.storage.rename(r.layout.audit(m), r.layout.leases(m) + "/x"), NOBODY),
    "move the model away": (lambda r, m: r.storage.rename(r.layout.model(m), r.layout.models() + "/x"), NOBODY),
    "delete the model": (lambda r, m: r.storage.delete(r.layout.model(m), recursive=True), NOBODY),
    "open the aliases": (lambda r, m: r.storage.set_mode(r.layout.aliases(m), 0o777), NOBODY),
    "take the aliases": (lambda r, m: r.storage.set_owner(r.layout.aliases(m), group="readers"), NOBODY),
    "list oneself": (lambda r, m: r.storage.add_acl(r.layout.aliases(m), ["user:trainer:rwx"]), NOBODY),
}


@pytest.mark.parametrize("deed", [name for name, (_, who) in DEEDS.items() if who != ALL])
def test_what_is_refused(site, untouched, deed):
    do, allowed = DEEDS[deed]
    model, before = untouched
    for user in sorted(ALL - allowed):
        registry = site.as_(user)
        registry.folder = site.folder
        if deed == "make a model":
            setup = permissions.init(registry, "new")
            assert not setup.done and setup.left and not site.admin.exists(registry.layout.model("new"))
        else:
            with pytest.raises(AccessDenied, match=f"{user}|you may not write there, which promoting"):
                do(registry, model)
    assert picture(site) == before


@pytest.mark.parametrize("deed", [name for name, (_, who) in DEEDS.items() if who])
def test_what_is_allowed(site, deed):
    do, allowed = DEEDS[deed]
    site.admin.write_bytes(f"{site.root}/models/index.html", b"", overwrite=True)
    model = None
    for user in sorted(allowed):
        if model is None or allowed != ALL:  # reading leaves it as it was
            model = site.model(f"m-{secrets.token_hex(4)}")
        registry = site.as_(user)
        registry.folder = site.folder
        assert do(registry, model) is not False


def test_operators_take_turns(site):
    """Several operators and publishers at one model, nobody in both groups: everything works as for one user."""
    name = site.model("turns")
    for turn, user in enumerate(["operator2", "operator", "lead", "operator2"]):
        with acting(user):
            site.as_(user).promote(name, 2 - turn % 2, "production")
    with acting("operator"):
        site.as_("operator").rollback(name, "production")
    assert site.as_("trainer2").publish(name, site.folder, run_id="r3").number == 3
    assert all(event.applied for event in site.as_("reader").history(name))
    assert len(site.as_("reader").history(name)) == 6
    assert [f for f in permissions.doctor(site.as_("reader"), name) if f.level != "note"] == []
    site.as_("operator").promote(name, 3, "production")
    (found,) = (f for f in permissions.doctor(site.as_("reader"), name) if f.level != "note")
    assert "did it, but operator wrote it" in found.what and found.level == "warning"


def test_an_operator_makes_a_model_without_an_administrator(site):
    """One who is not in the publishers' group cannot give a folder to it, but can list it."""
    operator = site.as_("operator")
    setup = permissions.init(operator, "mine")
    assert any("setfacl -m group::r-x,group:dkeras-publishers:rwx" in line for line in setup.done), setup
    # What is left is that the folders belong to the one who made them.
    assert [shlex.split(line)[:4] for line in setup.left] == [["hdfs", "dfs", "-chown", "keeper"]]
    assert permissions.init(operator, "mine").done == []
    found = permissions.doctor(site.as_("operator2"), "mine")
    assert {f.level for f in found} == {"warning", "note"} and found[-1].what == "you may not publish, you may promote"
    with pytest.raises(AccessDenied):
        site.as_("operator2").publish("mine", site.folder, run_id="r1")
    assert site.as_("trainer").publish("mine", site.folder, run_id="r1").number == 1
    assert site.as_("trainer2").publish("mine", site.folder, run_id="r2").number == 2
    site.as_("operator2").promote("mine", 2, "production")
    with pytest.raises(AccessDenied):
        site.as_("trainer").promote("mine", 1, "production")
    assert site.as_("lead").publish("mine", site.folder, run_id="r3").number == 3
    site.as_("lead").promote("mine", 3, "production")
    with pytest.raises(AccessDenied):
        site.as_("trainer").storage.rename(f"{operator.layout.versions('mine')}/2", f"{operator.layout.root}/x")


def test_the_lines_for_an_administrator_do_it(hadoop, site):
    """A stranger's init makes nothing; an administrator's shell runs its lines, and all is well."""
    registry = Registry(WebHdfsStorage(site.admin.url, user="reader"), f"{site.root}/it's another")
    setup = permissions.init(registry, "higgs", **GROUPS)
    assert not setup.done and setup.left[-1].startswith("dkeras models init --publishers dkeras-publishers --operators")
    for line in setup.left[:-1]:
        program, dfs, *words = shlex.split(line)
        assert (program, dfs) == ("hdfs", "dfs")
        result = hadoop.run("org.apache.hadoop.fs.FsShell", *words)
        assert result.returncode == 0, result.stderr
    again = permissions.init(registry, "higgs", **GROUPS)
    assert not again.done and again.left == setup.left[-1:]
    assert [f for f in permissions.doctor(registry) if f.level == "error"] == []


def test_mending_lines_with_a_star_and_a_list(hadoop, site):
    name = site.model("mend")
    layout = site.as_("admin").layout
    site.admin.set_mode(audit_entry(site.as_("admin"), name), 0o600)
    site.admin.add_acl(layout.aliases(name), ["user:eve:rwx"])
    site.admin.set_mode(f"{layout.versions(name)}/1/variables", 0o750)
    found = [f for f in permissions.doctor(site.as_("reader"), name) if f.level != "note"]
    assert sorted(f.what for f in found if "user eve" in f.what or "audit" in f.what) != []
    for line in dict.fromkeys(line for f in found for line in f.mend):
        result = hadoop.run("org.apache.hadoop.fs.FsShell", *shlex.split(line)[2:])
        assert result.returncode == 0, result.stderr
    assert [f for f in permissions.doctor(site.as_("reader"), name) if f.level != "note"] == []


def test_sticky_keeps_files_from_deletion_but_not_from_replacement(site):
    """A fact of HDFS on which docs/permissions.md rests, for good (the page) and ill (the audit)."""
    base = f"{site.root}/sticky"
    site.admin.mkdirs(base, mode=0o1777)
    one, two = (site.as_(user).storage for user in ("operator", "operator2"))
    one.write_bytes(f"{base}/theirs", b"old", mode=0o444)
    two.write_bytes(f"{base}/mine", b"new")
    for refused in (
        lambda: two.delete(f"{base}/theirs"),
        lambda: two.rename(f"{base}/theirs", f"{base}/x"),
        lambda: two.write_bytes(f"{base}/theirs", b"-", overwrite=True),
    ):
        with pytest.raises(AccessDenied):
            refused()
    two.replace(f"{base}/mine", f"{base}/theirs")
    assert one.read_bytes(f"{base}/theirs") == b"new"


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o757, 0o1770, 0o707, 0o700])
@pytest.mark.parametrize(
    "acl", [[], ["group::r-x", "group:dkeras-publishers:rwx"], ["group:dkeras-publishers:---"], ["user:trainer:r-x"]]
)
@pytest.mark.parametrize("group", ["dkeras-operators", "dkeras-publishers", "staff"])
def test_rights_of_groups_are_worked_out_as_the_namenode_does(site, mode, acl, group):
    path = f"{site.root}/rights-{secrets.token_hex(4)}"
    site.admin.mkdirs(path)
    site.admin.set_owner(path, group=group)
    if acl:
        site.admin.add_acl(path, acl)
    site.admin.set_mode(path, mode)
    status, found = site.admin.status(path), site.admin.acl(path)
    for user, member in (("trainer2", "dkeras-publishers"), ("operator", "dkeras-operators"), ("reader", "readers")):
        storage = site.as_(user).storage
        for rights in ("r", "w", "x", "rwx", "rx"):
            expected = storage.allows(path, rights)
            assert group_may(status, found, member, rights) is expected, (user, symbolic(rights), found)


def test_a_member_of_the_group_finds_out_before_the_gates(site):
    name = site.model("asked")
    permissions.require_promotion(site.as_("operator2"), name)
    with pytest.raises(AccessDenied, match="asked/leases: you may not write there") as error:
        permissions.require_promotion(site.as_("trainer"), name)
    assert error.value.next_step == "Ask a member of the group dkeras-operators."


def test_who_collects(site):
    """gc needs the tombstone (operators) and the version's own rights (its publisher): else all stays."""
    name = f"m-{secrets.token_hex(4)}"
    permissions.init(site.as_("admin"), name)
    for number, user in enumerate(["trainer", "lead", "trainer", "lead", "trainer"], 1):
        assert site.as_(user).publish(name, site.folder, run_id=f"r{number}").number == number

    def gc(user):
        registry = site.as_(user)
        with acting(user):
            return collect.carry_out(registry, collect.plan(registry, name, keep=1, older_than=timedelta(0)))

    for user in ("operator", "trainer", "reader", "trainer2"):
        outcome = gc(user)
        assert not outcome.deleted and all(isinstance(error, AccessDenied) for _, error in outcome.failed)
        assert len(outcome.failed) == 4 and site.as_("reader").versions(name) == [1, 2, 3, 4, 5]
        assert site.as_("reader").history(name) == [] and site.admin.list(site.as_(user).layout.tombstones(name)) == []
    outcome = gc("lead")
    assert outcome.deleted == [f"{name}@2", f"{name}@4"] and [path for path, _ in outcome.failed] == [
        f"{name}@1", f"{name}@3"
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HADOOP_USER_NAME", site.admin.status("/tmp").owner)
        outcome = collect.carry_out(
            site.as_("admin"), collect.plan(site.as_("admin"), name, keep=1, older_than=timedelta(0))
        )
    assert outcome.deleted == [f"{name}@1", f"{name}@3"] and not outcome.failed
    there = [status.name for status in site.admin.list(site.as_("admin").layout.versions(name))]
    assert there == ["5"] and all(version.verify() == [] for version in [site.as_("reader").version(name, 5)])
    assert [f for f in permissions.doctor(site.as_("reader"), name) if f.level != "note"] == []


def test_a_registry_from_before_there_were_groups(site, webhdfs):
    """Whoever published first owned everything; an administrator's init makes it shared."""
    base = f"{site.root}/before"
    webhdfs.mkdirs(base, mode=0o777)

    def as_(user):
        return Registry(WebHdfsStorage(webhdfs.url, user=user, failover=5), base)

    trainer = as_("trainer")
    trainer.publish("higgs", site.folder, run_id="r1")
    for status in webhdfs.walk(trainer.layout.versions("higgs")):
        webhdfs.set_mode(status.path, 0o644)
    trainer.storage.write_bytes(trainer.layout.alias("higgs", "production"), b"1\n")
    levels = {(f.level, f.what.partition(":")[0]) for f in permissions.doctor(as_("reader"))}
    assert ("warning", "no groups are set") in levels and ("warning", "version 1 can be changed by its owner") in levels
    setup = permissions.init(Registry(webhdfs, base), **GROUPS, owner="keeper")
    assert setup.left == [] and setup.done[-1] == f"wrote {base}/models/permissions.json"
    with pytest.raises(AccessDenied):
        trainer.promote("higgs", 1, "staging")
    assert as_("trainer2").publish("higgs", site.folder, run_id="r2").number == 2
    with acting("operator"):
        as_("operator").promote("higgs", 2, "production")
    assert [f.what.partition(":")[0] for f in permissions.doctor(as_("reader"), "higgs") if f.level != "note"] == [
        "version 1 can be changed by its owner"
    ]


@pytest.mark.slow
def test_on_a_namenode_without_access_control_lists(spare_hadoop, tmp_path, monkeypatch):
    """An operator outside the publishers' group makes what is allowed; nothing is open to the wrong group meanwhile."""
    shutil.copytree(configuration.DEPLOY, tmp_path / "deploy")
    template = tmp_path / "deploy/conf/hdfs-site.xml.j2"
    off = "<property><name>dfs.namenode.acls.enabled</name><value>false</value></property></configuration>"
    template.write_text(template.read_text().replace("</configuration>", off))
    monkeypatch.setattr(configuration, "DEPLOY", tmp_path / "deploy")
    spare_hadoop.up()
    admin, operator = (WebHdfsStorage(spare_hadoop.namenode_http, user=user) for user in (None, "operator"))
    assert admin.acl("/tmp") is None
    with pytest.raises(StorageError, match="access control list is refused"):
        admin.add_acl("/tmp", ["group::r-x"])
    assert not permissions.init(Registry(admin, "/dkeras"), **GROUPS).left
    setup = permissions.init(Registry(operator, "/dkeras"), "higgs")
    versions, catalog = "/dkeras/models/higgs/versions", "/dkeras/models/higgs/catalog"
    assert setup.left == [
        f"hdfs dfs -chgrp dkeras-publishers {versions} {catalog}",
        f"hdfs dfs -chmod 1775 {versions}",
        f"hdfs dfs -chmod 775 {catalog}",
    ]
    assert [operator.status(path).mode for path in (versions, catalog)] == [0o755, 0o755]
    for line in setup.left:
        assert spare_hadoop.run("org.apache.hadoop.fs.FsShell", *shlex.split(line)[2:]).returncode == 0
    assert [f for f in permissions.doctor(Registry(admin, "/dkeras")) if f.level != "note"] == []
