"""Set-up and check of a registry that groups share, on a local folder; test_permissions_hdfs.py has the users."""

import grp
import os
import subprocess
from pathlib import Path

import pytest

from dkeras_core.errors import AccessDenied, RegistryError, StorageError
from dkeras_core.registry import Registry, permissions
from dkeras_core.registry.folders import Roles, Rule
from dkeras_core.registry.manifest import seal
from dkeras_core.storage import FileStatus
from dkeras_core.storage.local import LocalStorage

GROUP = grp.getgrgid(os.getgid()).gr_name
FOLDERS = ["", "versions", "catalog", "aliases", "audit", "leases", "marks", "tombstones"]


@pytest.fixture
def registry(tmp_path, folder, monkeypatch):
    """A registry set up for one group in both roles, with a version, an alias and what else a model has."""
    monkeypatch.delenv("HADOOP_USER_NAME", raising=False)
    registry = Registry(LocalStorage(), str(tmp_path / "root"))
    setup = permissions.init(registry, "higgs", publishers=GROUP, operators=GROUP)
    assert not setup.left
    registry.publish("higgs", folder, run_id="r1")
    registry.promote("higgs", 1, "production")
    return registry


def errors(registry, *arguments):
    """What the doctor finds in the registry (pytest's own folders are closed), but for both groups being one."""
    found = [f for f in permissions.doctor(registry, *arguments) if f.path.startswith(registry.layout.root)]
    return [f for f in found if f.level != "note" and "both are group" not in f.what]


def test_a_new_registry_has_its_folders_and_the_doctor_is_content(registry):
    modes = {
        name: oct(registry.storage.status(f"{registry.layout.model('higgs')}/{name}".rstrip("/")).mode)
        for name in FOLDERS
    }
    sticky, shared = "0o1775", "0o775"
    assert modes == {
        "": "0o755", "versions": sticky, "audit": sticky, "catalog": shared, "aliases": shared, "leases": shared,
        "marks": shared, "tombstones": shared,
    }  # fmt: skip
    assert registry.storage.status(registry.layout.models()).mode == 0o1775
    assert errors(registry) == errors(registry, "higgs") == []
    note = permissions.doctor(registry)[-1]
    assert note.level == "note" and note.what == "you may publish, you may promote"


def test_doing_it_again_changes_nothing_and_needs_no_groups(registry):
    assert permissions.init(registry) == permissions.init(registry, "higgs") == permissions.Setup()
    permissions.init(registry, "other")
    assert errors(registry) == [] and registry.models() == ["higgs", "other"]


def disturbances():
    """What may go wrong with a registry: (name, path below the model, change, word of the finding, level)."""
    for folder in FOLDERS:
        yield f"{folder or 'model'} missing", folder, lambda p: os.rename(p, f"{p}.away"), "does not exist", "error"
        yield f"{folder or 'model'} open", folder, lambda p: os.chmod(p, 0o777), "everybody may", "error"
        yield f"{folder or 'model'} closed", folder, lambda p: os.chmod(p, os.stat(p).st_mode & ~5), "read it", "error"
        if folder:
            yield f"{folder} not writable", folder, lambda p: os.chmod(p, 0o755), f"group {GROUP} cannot", "error"
    for folder in ("versions", "audit"):
        yield f"{folder} not sticky", folder, lambda p: os.chmod(p, 0o775), "is not sticky", "error"
    for folder in ("aliases", "leases", "marks", "tombstones", "catalog"):
        yield f"{folder} sticky", folder, lambda p: os.chmod(p, 0o1775), "is sticky", "error"
    yield "folder too wide", "", lambda p: os.chmod(p, 0o775), f"group {GROUP} may write here too", "error"
    yield "version's file by owner", "versions/1/empty", lambda p: os.chmod(p, 0o644), "by its owner: empty", "warning"
    yield "version's file by group", "versions/1/empty", lambda p: os.chmod(p, 0o664), "by others", "error"
    yield "version's folder", "versions/1/variables", lambda p: os.chmod(p, 0o755), "by its owner: variables", "warning"
    yield "version closed", "versions/1/variables", lambda p: os.chmod(p, 0o500), "may read variables", "error"
    yield "alias open", "aliases/production", lambda p: os.chmod(p, 0o646), "everybody may write aliases", "error"
    yield "alias closed", "aliases/production", lambda p: os.chmod(p, 0o600), "may read production", "error"


@pytest.mark.parametrize(("path", "change", "word", "level"), [d[1:] for d in disturbances()], ids=[
    d[0] for d in disturbances()
])  # fmt: skip
def test_every_disturbance_is_found_and_mended_by_the_lines_it_comes_with(registry, path, change, word, level):
    change(f"{registry.layout.model('higgs')}/{path}".rstrip("/"))
    found = errors(registry)
    if path == "" and word == "does not exist":
        with pytest.raises(RegistryError, match="no model higgs"):
            permissions.doctor(registry, "higgs")
        return
    assert [f for f in found if word in f.what and f.level == level], found
    assert found[0].level == "error" or all(f.level != "error" for f in found)
    for line in dict.fromkeys(line for each in found for line in each.mend):
        subprocess.run(line, shell=True, check=True)
    lost = word == "does not exist" and path in ("versions", "audit")  # which nothing brings back
    assert all(lost and not f.mend for f in errors(registry))


@pytest.mark.parametrize("name", ["folder", "sticky", "not writable"])
def test_init_mends_folders(registry, name):
    versions = registry.layout.versions("higgs")
    os.chmod(versions, {"folder": 0o1757, "sticky": 0o775, "not writable": 0o1755}[name])
    setup = permissions.init(registry)
    assert setup.done == [f"chmod 1775 {versions}"] and not setup.left and errors(registry) == []


def test_an_owner_that_was_agreed_on_is_asked_for(registry):
    roles = Roles(publishers=GROUP, operators=GROUP, owner="keeper").to_bytes()
    registry.storage.write_bytes(f"{registry.layout.models()}/permissions.json", roles, overwrite=True)
    found = errors(registry)
    assert [(f.level, f.path) for f in found] == [
        ("warning", registry.layout.models()), ("warning", registry.layout.model("higgs"))
    ]  # fmt: skip
    assert all("who may delete anything in it" in f.what and f.mend[0].startswith("chown keeper ") for f in found)
    assert found[1].what.startswith("itself, versions, catalog, aliases,") and len(found[1].mend[0].split()) == 10


def test_one_group_for_both_is_told(registry):
    assert [f.what for f in permissions.doctor(registry) if f.level == "warning"] == [
        f"who may publish may promote: both are group {GROUP}"
    ]


def test_the_way_to_the_models_is_open(registry):
    root = registry.layout.root
    os.chmod(root, 0o750)
    (found,) = errors(registry)
    assert (found.level, found.path, found.mend) == ("error", root, (f"chmod o+x {root}",))


def test_an_entry_of_the_audit_may_not_change(registry):
    entry = next(iter(registry.storage.walk(registry.layout.audit("higgs"))))
    os.chmod(entry.path, 0o644)
    (found,) = errors(registry)
    assert found.level == "warning" and entry.name in found.what
    subprocess.run(found.mend[0], shell=True, check=True)
    assert errors(registry) == [] and os.stat(entry.path).st_mode & 0o777 == 0o444


@pytest.mark.parametrize(
    ("content", "level", "word"),
    [
        ("{number}\n", "warning", "says not which entry"),
        ("{number}\n20261123T014512.123456Z-00000000\n{digest}\n", "error", "which is not in the audit"),
        ("{number}\n{entry}\n" + "0" * 64 + "\n", "error", "not what was promoted"),
        ("77\n{entry}\n{digest}\n", "error", "versions/77"),
        ("production\n", "error", "instead of a version's number"),
    ],
)
def test_an_alias_that_was_set_by_hand_is_found(registry, content, level, word):
    pointer = registry.pointer("higgs", "production")
    path = registry.layout.alias("higgs", "production")
    registry.storage.write_bytes(path, content.format(**vars(pointer)).encode(), overwrite=True, mode=0o644)
    (found,) = errors(registry)
    assert (found.level, found.path) == (level, path) and word in found.what


def test_a_version_that_its_owner_changed_after_its_promotion_is_found(registry):
    manifest = Path(registry.layout.versions("higgs"), "1", "manifest.json")
    changed = manifest.read_bytes().replace(b"r1", b"r9")
    for name, content in (("manifest.json", changed), ("manifest.sha256", seal(changed))):
        manifest.with_name(name).chmod(0o644)
        manifest.with_name(name).write_bytes(content)
        manifest.with_name(name).chmod(0o444)
    assert registry.version("higgs", 1).verify() == []  # by itself it is whole again
    (found,) = errors(registry)
    assert found.level == "error" and "not what was promoted" in found.what


def test_an_entry_that_names_another_user_is_found(tmp_path, registry, monkeypatch):
    registry.publish("higgs", tmp_path / "folder", run_id="r2")
    monkeypatch.setenv("HADOOP_USER_NAME", "somebody")
    entry = registry.promote("higgs", 2, "production")
    (found,) = errors(registry)
    assert found.level == "warning" and entry.id in found.path and "says that somebody did it" in found.what


def test_a_publisher_who_owns_what_operators_write_is_named(registry):
    roles = Roles(publishers=GROUP, operators="others").to_bytes()
    registry.storage.write_bytes(f"{registry.layout.models()}/permissions.json", roles, overwrite=True)
    (found,) = (f for f in permissions.doctor(registry) if "has published" in f.what)
    assert found.path == registry.layout.model("higgs") and len(found.mend) == 1
    assert "owns higgs, aliases, audit, leases, marks, tombstones," in found.what
    assert found.mend[0].startswith("chown ADMINISTRATOR /") and len(found.mend[0].split()) == 8


def test_without_groups_the_owner_does_all_and_the_doctor_says_so(tmp_path, folder):
    registry = Registry(LocalStorage(), str(tmp_path / "root"))
    registry.publish("higgs", folder, run_id="r1")
    registry.promote("higgs", 1, "production")
    os.chmod(registry.layout.aliases("higgs"), 0o775)  # an umask of 002: which group that is, nobody has said
    found = permissions.doctor(registry)
    assert not [f for f in found if f.level == "error" and "does not exist" not in f.what], found
    assert "no groups are set" in next(f for f in found if f.level == "warning").what
    permissions.init(registry)
    assert not [f for f in errors(registry) if f.level == "error"]


class Refusing(LocalStorage):
    """Refuses single operations, as HDFS does with whom it does not want, and records what was tried."""

    def __init__(self, *refused, lists=False):
        self.refused, self.lists, self.tried = refused, lists, []

    def _try(self, what, path):
        self.tried.append(what)
        if what in self.refused:
            raise AccessDenied(f"{path}: permission denied")

    def mkdirs(self, path, mode=None):
        self._try("mkdir", path)
        super().mkdirs(path, mode)

    def set_owner(self, path, *, owner=None, group=None):
        self._try("chgrp" if group else "chown", path)

    def set_mode(self, path, mode):
        self._try("chmod", path)
        super().set_mode(path, mode)

    def add_acl(self, path, entries):
        if not self.lists:
            super().add_acl(path, entries)
        self._try(f"setfacl {','.join(entries)}", path)


@pytest.mark.parametrize("lists", [True, False])
def test_who_cannot_give_a_folder_to_a_group_lists_it_or_leaves_it(tmp_path, lists):
    storage = Refusing("chgrp", lists=lists)
    registry = Registry(storage, str(tmp_path / "root"))
    setup = permissions.init(registry, "higgs", publishers="pub", operators="ops")
    versions = registry.layout.versions("higgs")
    if lists:
        assert storage.tried.count("setfacl group::r-x,group:pub:rwx") == 2 and not setup.left
        assert os.stat(versions).st_mode & 0o7777 == 0o1775
    else:
        # With the wrong group the mode would let the wrong people write.
        assert os.stat(versions).st_mode & 0o022 == 0
        assert [line.split("root/models")[0].split(" ")[:2] for line in setup.left] == [
            ["chgrp", "ops"], ["chgrp", "pub"], ["chmod", "1775"], ["chmod", "775"],
        ]  # fmt: skip
        assert versions in setup.left[1] and versions in setup.left[2]


def test_who_may_make_nothing_is_told_all_of_it(tmp_path):
    registry = Registry(Refusing("mkdir"), str(tmp_path / "it's here"))
    storage = registry.storage
    storage.write_atomic = lambda path, data, mode: storage._try("mkdir", path)
    setup = permissions.init(registry, "higgs", publishers=GROUP, operators=GROUP, owner="keeper")
    assert not setup.done and not (tmp_path / "it's here").exists()
    assert [line.split(" ")[0] for line in setup.left] == [
        "mkdir",
        "chgrp",
        "chmod",
        "chmod",
        "chmod",
        "chown",
        "dkeras",
    ]
    assert f"--publishers {GROUP} --operators {GROUP} --owner keeper" in setup.left[-1]
    for line in setup.left[:-2]:
        subprocess.run(line, shell=True, check=True)
    plain = Registry(LocalStorage(), str(tmp_path / "it's here"))
    assert permissions.init(plain, "higgs", publishers=GROUP, operators=GROUP).done == [
        f"wrote {plain.layout.models()}/permissions.json"
    ]


def test_promotion_is_refused_before_anything_is_computed(registry, monkeypatch):
    permissions.require_promotion(registry, "higgs")
    permissions.require_promotion(registry, "new")
    monkeypatch.setattr(LocalStorage, "allows", lambda self, path, action: not path.endswith("/aliases"))
    with pytest.raises(AccessDenied, match="higgs/aliases: you may not write there") as error:
        permissions.require_promotion(registry, "higgs")
    assert f"group {GROUP}" in error.value.next_step


@pytest.mark.parametrize("group", ["a,b", "a:b", "", "-R", "a/b", "a\nb", " a"])
def test_groups_that_are_none(tmp_path, group):
    with pytest.raises(RegistryError, match="no name of a user or group"):
        permissions.init(Registry(LocalStorage(), str(tmp_path)), publishers=group)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b'{"operators": 7}', b'{"format": 2}', b'{"operators": "a:b"}'])
def test_damaged_roles_are_named(tmp_path, content):
    registry = Registry(LocalStorage(), str(tmp_path))
    registry.storage.write_bytes(f"{tmp_path}/models/permissions.json", content)
    for call in (permissions.init, permissions.doctor):
        with pytest.raises(RegistryError):
            call(registry)


def test_rights_of_a_list_are_seen():
    rule = Rule("/m/versions", "pub", True, "publish")

    def found(mode, group, acl):
        status = FileStatus("/m/versions", True, 0, 0.0, "keeper", mode, group)
        return [(d.what, [c.action for c in d.commands]) for d in rule.differences(status, acl, None)]

    assert found(0o1775, "ops", ["group::r-x", "group:pub:rwx"]) == []
    assert found(0o1775, "pub", ["group::rwx", "group:eve:rwx", "user:bob:rwx"]) == [
        ("group eve may publish too", ["setfacl -x"]),
        ("user bob may publish too", ["setfacl -x"]),
    ]
    assert found(0o1775, "ops", ["group::rwx", "group:pub:rwx"]) == [("group ops may publish too", ["setfacl -m"])]
    assert found(0o1775, "ops", []) == [
        ("group pub cannot publish: it may not write here", ["chgrp", "chmod"]),
        ("group ops may publish too", ["chgrp", "chmod"]),
    ]


def test_rights_that_were_given_on_purpose_are_left_to_a_person(registry, monkeypatch):
    lists = {registry.layout.versions("higgs"): ["group::rwx", "user:bob:rwx"]}
    monkeypatch.setattr(LocalStorage, "acl", lambda self, path: lists.get(path))
    setup = permissions.init(registry)
    assert setup.left == [f"setfacl -x user:bob {registry.layout.versions('higgs')}"] and not setup.done


def test_a_failure_that_is_no_refusal_ends_it(tmp_path, monkeypatch):
    def fail(self, path, mode):
        raise StorageError(f"{path}: the NameNode is in safe mode")

    monkeypatch.setattr(LocalStorage, "set_mode", fail)
    with pytest.raises(StorageError, match="safe mode"):
        permissions.init(Registry(LocalStorage(), str(tmp_path)), publishers=GROUP, operators=GROUP)


def test_a_file_where_the_root_belongs(tmp_path):
    registry = Registry(LocalStorage(), str(tmp_path / "file"))
    (tmp_path / "file").write_text("a file where the root belongs")
    with pytest.raises(StorageError, match="file"):
        permissions.init(registry)
