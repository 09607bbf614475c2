import ensurepip
import json
import os
import stat
from pathlib import Path

import pytest

from envs.builder.convert import dependencies, glibc_floor, wheel_to_conda
from envs.builder.specs import SITE_PACKAGES


def unpack(package: Path, folder: Path) -> Path:
    from rattler.package_streaming import extract

    folder.mkdir()
    extract(package, folder)
    return folder


def test_a_real_wheel_becomes_a_conda_package(tmp_path):
    wheel = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    package = wheel_to_conda(wheel, "abc", tmp_path)
    assert package == tmp_path / "linux-64" / f"pip-{wheel.name.split('-')[1]}-py311_abc.conda"
    folder = unpack(package, tmp_path / "out")
    index = json.loads((folder / "info" / "index.json").read_text())
    assert (index["name"], index["build"], index["subdir"]) == ("pip", "py311_abc", "linux-64")
    assert index["depends"] == ["python 3.11.*"]
    assert (folder / SITE_PACKAGES / "pip" / "__main__.py").is_file()
    assert next(folder.glob(f"{SITE_PACKAGES}/pip-*.dist-info/INSTALLER")).read_text() == "conda\n"
    assert not list(tmp_path.glob(".convert-*")), "the staging folder is left"


def test_conversion_is_deterministic(tmp_path, new_wheel):
    wheel = new_wheel("toy", "1.0", {"toy/__init__.py": "x = 1\n"})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = wheel_to_conda(wheel, "d", tmp_path / "a").read_bytes()
    os.utime(wheel, (1, 1))
    assert wheel_to_conda(wheel, "d", tmp_path / "b").read_bytes() == first


def test_files_stand_where_conda_has_them(tmp_path, new_wheel):
    files = {
        "toy/__init__.py": "",
        "toy-1.0.data/scripts/toy-old": "#!python\nprint(1)\n",
        "toy-1.0.data/data/share/toy.txt": "data",
        "toy-1.0.data/platlib/toy_native.py": "",
        "tensorflow/include/huge.h": "not wanted",
    }
    wheel = new_wheel("toy", "1.0", files, entry_points="[console_scripts]\ntoy = toy.main:cli.run\n")
    folder = unpack(wheel_to_conda(wheel, "d", tmp_path), tmp_path / "out")
    assert (folder / "share" / "toy.txt").read_text() == "data"
    assert (folder / SITE_PACKAGES / "toy_native.py").exists()
    assert not (folder / SITE_PACKAGES / "tensorflow").exists(), "an excluded file is packed"
    assert (folder / "bin" / "toy-old").read_text().startswith("#!/usr/bin/env python3.11\n")
    script = folder / "bin" / "toy"
    assert script.stat().st_mode & stat.S_IXUSR
    assert "from toy.main import cli" in script.read_text() and "cli.run()" in script.read_text()
    record = (folder / SITE_PACKAGES / "toy-1.0.dist-info" / "RECORD").read_text()
    assert "../../../bin/toy,sha256=" in record and "../../../share/toy.txt,sha256=" in record
    assert "toy-1.0.data" not in record


def test_dependencies_follow_markers_and_tags():
    requires = [
        'six>=1.9; python_version < "4"',
        'colorama; sys_platform == "win32"',
        'pytest; extra == "test"',
        "PyYAML!=5.*,>=5.1",
        "typing_extensions==4.*",
    ]
    assert dependencies(requires, ["cp311-cp311-manylinux_2_28_x86_64"]) == [
        "python 3.11.*",
        "six >=1.9",
        "pyyaml !=5.*,>=5.1",
        "typing-extensions 4.*",
        "__glibc >=2.28",
    ]


@pytest.mark.parametrize(
    ("tags", "floor"),
    [
        (["py3-none-any"], None),
        (["cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux2014_x86_64"], (2, 17)),
        (["cp311-cp311-manylinux_2_28_x86_64.manylinux_2_27_x86_64"], (2, 27)),
    ],
)
def test_glibc_floor(tags, floor):
    assert glibc_floor(tags) == floor


def test_a_wheel_that_leads_outside_is_refused(tmp_path, new_wheel):
    from dkeras_core.errors import EnvironmentBuildError

    wheel = new_wheel("evil", "1.0", {"../../outside.py": ""})
    with pytest.raises(EnvironmentBuildError, match="unsafe path"):
        wheel_to_conda(wheel, "d", tmp_path)
    assert not list(tmp_path.glob("linux-64/*"))
