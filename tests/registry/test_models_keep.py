"""`dkeras models` verify, pull, export, page, tag, archive, restore, gc, init and doctor as a shell sees them."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from dkeras_core.cli.app import load, run
from dkeras_core.errors import Conflict, GateFailed, RegistryError, StorageError
from dkeras_core.registry import marks, readonly


def damage(shell, number, name="empty", content=b"x"):
    version = shell.registry.at("higgs", number).path
    readonly.unlock(shell.registry.storage, version)
    Path(version, name).chmod(0o644)
    Path(version, name).write_bytes(content)


def test_verify(shell):
    code, out, err = shell("verify", "higgs@1", "higgs@2")
    assert (code, err) == (0, "") and [line.split(" is ")[0] for line in out.splitlines()] == ["higgs@1", "higgs@2"]
    damage(shell, 1)
    code, out, err = shell("verify", "higgs", "--all")
    assert code == 7 and out.startswith("higgs@2 is whole") and "empty: has 1 bytes instead of 0" in err
    found = json.loads(shell("verify", "higgs@1", "higgs@2", "--json")[1])
    assert [row["problems"] for row in found] == [["empty: has 1 bytes instead of 0"], []]


def test_a_version_that_was_exchanged_after_its_promotion_is_found_by_its_alias(shell):
    versions = shell.root / "models/higgs/versions"
    readonly.remove(shell.registry.storage, str(versions / "1"))
    shutil.copytree(versions / "2", versions / "1")  # whole in itself, but another
    assert shell("verify", "higgs@1")[0] == 0
    for command in (["verify", "higgs@production"], ["pull", "higgs@production", str(shell.root / "x")]):
        code, _, err = shell(*command)
        assert code == 7 and "manifest.json: is not the one that was promoted" in err
    assert not (shell.root / "x").exists()


def test_pull(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shell("pull", "higgs@production")[0] == 0
    assert (tmp_path / "higgs-1/variables/data").read_bytes() == b"more weights"
    code, _, err = shell("pull", "higgs@1")
    assert code == 4 and "stands there already" in err
    assert json.loads(shell("pull", "higgs", str(tmp_path / "x"), "--json")[1])["folder"] == str(tmp_path / "x")


@pytest.fixture
def served(shell, folder):
    """Two further versions, 3 and 4, which TensorFlow Serving could load."""
    (folder / "saved_model.pb").write_bytes(b"graph")
    for run_id in ("run-3", "run-4"):
        shell.registry.publish("higgs", folder, run_id=run_id)
    return shell


def test_export(served, tmp_path):
    target = tmp_path / "serving"
    code, out, _ = served("export", "higgs@4", str(target))
    assert code == 0 and out == f"higgs@4 -> {target}/4\n" and (target / "4/saved_model.pb").read_bytes() == b"graph"
    assert served("export", "higgs@4", str(target))[1].endswith("(was there already)\n")
    assert served("export", "higgs@3", str(target))[0] == 7  # 4 would go on being served
    found = json.loads(served("export", "higgs@3", str(target), "--supersede", "--json")[1])
    assert (found["path"], found["made"], found["removed"]) == (f"{target}/3", True, [4])


def test_page(shell, tmp_path):
    code, out, _ = shell("page")
    written = shell.root / "models/index.html"
    assert code == 0 and out == f"page {written}\n" and "higgs" in written.read_text()
    assert shell("page", str(tmp_path / "here.html"))[0] == 0 and "higgs" in (tmp_path / "here.html").read_text()
    code, _, err = shell("page", str(tmp_path / "no/here.html"))
    assert code == 1 and "No such file or directory" in err


def test_the_page_follows_what_the_commands_change(shell):
    page = shell.root / "models/index.html"
    assert shell("tag", "higgs@2", "owner=anna-who-is-new", "--json")[0] == 0
    assert "anna-who-is-new" in page.read_text()
    shell.registry.promote("higgs", 2, "production")
    assert shell("rollback", "higgs@production", "--reason", "for-a-new-reason", "--json")[0] == 0
    assert "for-a-new-reason" in page.read_text()


def test_tag(shell):
    assert shell("tag", "higgs@2", "owner=anna", "quality=a=b")[1] == "higgs@2: owner=anna, quality=a=b\n"
    assert shell("tag", "higgs@2", "--remove", "owner")[1] == "higgs@2: quality=a=b\n"
    found = json.loads(shell("tag", "higgs@2", "--json")[1])
    assert (found["tags"], found["changed"]) == ({"quality": "a=b"}, False)
    assert len(shell.registry.history("higgs")) == 3  # looking is no entry


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["higgs@2", "owner"], 2, "Write KEY=VALUE"),
        (["higgs@2", "a=b", "--remove", "a"], 2, "named twice"),
        (["higgs@2", "Größe=1"], 7, "tag"),
        (["higgs@2", "a=\x1b[2J"], 7, "printable"),
    ],
)
def test_what_is_no_tag(shell, arguments, code, said):
    found, _, err = shell("tag", *arguments)
    assert found == code and said in err and "\x1b" not in err


def test_archive_and_restore(shell):
    code, out, _ = shell("archive", "higgs@2", "--reason", "mislabelled rows")
    assert code == 0 and out.startswith("higgs@2: no tags; archived ") and out.endswith(": mislabelled rows\n")
    assert shell("archive", "higgs@2")[0] == 2  # no reason
    code, _, err = shell("archive", "higgs@1", "--reason", "x")
    assert code == 7 and "production names it" in err
    assert json.loads(shell("restore", "higgs@2", "--json")[1])["archived"] is None
    assert marks.read(shell.registry, "higgs", 2).archived is None


@pytest.fixture
def old(shell, folder):
    """Six versions of which 1 is production; two days old."""
    for number in range(3, 7):
        shell.registry.publish("higgs", folder, run_id=f"run-{number}")
    for path in (shell.root / "models/higgs/versions").iterdir():
        os.utime(path, (path.stat().st_mtime - 2 * 86400,) * 2)
    return shell


def test_gc_is_a_dry_run_unless_told(old):
    code, out, _ = old("gc", "higgs", "--keep", "2", "--older-than", "1d")
    assert code == 0 and "3 versions to go" in out and "this was a dry run; --yes deletes" in out
    assert "named by production: higgs@1" in out and old.registry.versions("higgs") == [1, 2, 3, 4, 5, 6]
    found = json.loads(old("gc", "--keep", "2", "--older-than", "1d", "--json")[1])
    assert found["dry_run"] and [row["version"] for row in found["versions"]] == [2, 3, 4]


def test_gc(old):
    code, out, _ = old("gc", "higgs", "--keep", "2", "--older-than", "1d", "--yes")
    assert code == 0 and out.splitlines()[-1].startswith("deleted 3 versions")
    assert old.registry.versions("higgs") == [1, 5, 6]
    assert [line.split()[:2] for line in old("list", "higgs", "--deleted")[1].splitlines()[3:5]] == [
        ["4", "deleted"],
        ["3", "deleted"],
    ]
    code, _, err = old("show", "higgs@3")
    assert code == 7 and "higgs@3 was deleted" in err


def test_gc_keeps_the_young_and_says_so(old):
    out = old("gc", "higgs", "--keep", "1", "--older-than", "3d", "--yes")[1]
    assert "0 versions to go" in out and old.registry.versions("higgs") == [1, 2, 3, 4, 5, 6]
    assert old("gc", "--older-than", "soon")[0] == 2
    assert old("gc", "nothing")[0] == 7


def test_gc_goes_on_after_what_it_cannot_delete_and_says_so(old, monkeypatch):
    rename = type(old.registry.storage).rename

    def refuse(self, src, dst):
        if src.endswith("versions/3"):
            raise StorageError(f"{src}: permission denied", "Ask its owner.")
        rename(self, src, dst)

    monkeypatch.setattr(type(old.registry.storage), "rename", refuse)
    code, out, err = old("gc", "higgs", "--keep", "2", "--older-than", "1d", "--yes")
    assert code == 7 and "deleted 2 versions" in out and "1 deletion failed" in err and "permission denied" in err


def test_init_and_doctor(shell):
    damage(shell, 1, content=b"")
    (shell.root / "models/higgs/audit").chmod(0o777)
    code, out, err = shell("doctor", "higgs")
    assert code == 7 and f"✗ {shell.root}/models/higgs/audit" in out and "must be mended" in err
    assert any(line.startswith("    chmod") for line in out.splitlines())
    found = json.loads(shell("doctor", "--json")[1])
    assert {"level", "path", "what", "mend"} == set(found[0]) and found[0]["level"] == "error"
    assert shell("init", "higgs")[0] == 0
    code, out, _ = shell("doctor", "higgs")
    assert code == 0 and "you may promote" in out
    assert shell("doctor", "nothing")[0] == 7
    assert shell("init", "muons")[0] == 0 and (shell.root / "models/muons/versions").is_dir()


COMMANDS = "list show compare history verify promote rollback pull export page tag archive restore gc init doctor"


def test_the_commands():
    assert sorted(load("models").commands) == sorted(COMMANDS.split())


@pytest.mark.parametrize("command", COMMANDS.split())
def test_every_help_has_an_example_that_parses(command):
    app = load("models")
    found = app.commands[command]
    example = [line for line in found.help.splitlines() if line.startswith("Example: dkeras models ")]
    assert len(example) == 1 and "--json" in {option for one in found.params for option in one.opts}
    words = shlex.split(example[0].removeprefix("Example: dkeras models "))
    assert words[0] == command
    with found.make_context(command, words[1:]):
        pass


def test_exit_codes_are_in_the_help(capsys):
    assert run(["models", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{RegistryError.exit_code} damaged" in said and f"{Conflict.exit_code} somebody else" in said
    assert f"{GateFailed.exit_code} a check failed" in said
