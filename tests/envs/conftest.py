"""Small wheels made in place, and a channel of a real Python and stand-ins: the whole chain runs on it in seconds."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

TAG = "py3-none-any"

# What the trial imports, as small as it can be. The archive of the real packages is tried in test_archive.py.
KERAS = """
class backend:
    backend = staticmethod(lambda: "tensorflow")
class ops:
    ones = staticmethod(lambda shape: shape[0] * shape[1])
    sum = staticmethod(float)
"""
STAND_INS = {
    "tensorflow-cpu": ("2.21.0", {"tensorflow/__init__.py": ""}),
    "keras": ("3.15.1", {"keras/__init__.py": KERAS}),
    "numpy": ("2.4.6", {"numpy/__init__.py": ""}),
    "pandas": ("2.3.3", {"pandas/__init__.py": ""}),
    "pyarrow": ("26.0.1", {"pyarrow/__init__.py": "", "pyarrow/parquet.py": ""}),
    "h5py": ("3.14.0", {"h5py/__init__.py": ""}),
    "pydantic": ("2.14.3", {"pydantic/__init__.py": ""}),
    "pyyaml": ("6.0.3", {"yaml/__init__.py": ""}),
    "jinja2": ("3.1.6", {"jinja2/__init__.py": ""}),
    "python-hdfs": ("2.7.3", {"hdfs/__init__.py": ""}),
}


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    files: dict[str, str],
    requires: tuple[str, ...] = (),
    entry_points: str = "",
    tag: str = TAG,
) -> Path:
    """Write a valid wheel and return its path; ``files`` maps a path in the wheel to its text."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: a test"]
    metadata += [f"Requires-Dist: {line}" for line in requires]
    content = dict(files)
    content[f"{info}/METADATA"] = "\n".join(metadata) + "\n"
    content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n" + "".join(
        f"Tag: {'-'.join([*tag.split('-')[:2], platform])}\n" for platform in tag.split("-")[2].split(".")
    )
    if entry_points:
        content[f"{info}/entry_points.txt"] = entry_points
    record = []
    for path, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(text.encode())}")
    content[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    wheel = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return wheel


@pytest.fixture
def new_wheel(tmp_path):
    """``new_wheel(name, version, files, requires, entry_points, tag)`` writes a wheel into the test's folder."""
    return lambda *arguments, **named: make_wheel(tmp_path, *arguments, **named)


@pytest.fixture(scope="session")
def small_channel(tmp_path_factory) -> Path:
    """A conda channel folder: this machine's CPython, pip's own wheel, and stand-ins for the large packages."""
    import ensurepip

    from envs.builder.channel import write_repodata
    from envs.builder.convert import wheel_to_conda
    from envs.builder.python_package import python_to_conda

    channel = tmp_path_factory.mktemp("channel")
    (channel / "noarch").mkdir()
    python_to_conda("test", channel)
    wheels = tmp_path_factory.mktemp("wheels")
    pip = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    wheel_to_conda(pip, "test", channel)
    for name, (version, files) in STAND_INS.items():
        requires = ("pip",) if name == "keras" else ()
        wheel_to_conda(make_wheel(wheels, name, version, files, requires), "test", channel)
    write_repodata(channel)
    return channel
