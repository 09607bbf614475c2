import os
import subprocess
import sys
from pathlib import Path

import pytest

DEBIAN = Path("/usr/bin/python3.11")
MAKE = """
import sys
from pathlib import Path
sys.path += sys.argv[2:]
from envs.builder.python_package import python_to_conda
print(python_to_conda("test", Path(sys.argv[1])))
"""


INTERPRETERS = [
    pytest.param(Path(sys.base_prefix) / "bin" / "python3.11", id="present"),
    pytest.param(
        DEBIAN, id="debian", marks=pytest.mark.skipif(not DEBIAN.exists(), reason="no Python of Debian's here")
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_the_copy_moves(interpreter, tmp_path, project_root):
    from rattler.package_streaming import extract

    # The tools come from this environment, the interpreter that is copied is the one that runs.
    tools = [path for path in sys.path if path.endswith("site-packages")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "PYTHONPATH": str(project_root)}
    made = subprocess.run(
        [interpreter, "-c", MAKE, tmp_path, *tools], capture_output=True, text=True, env=environment, timeout=120
    )
    assert made.returncode == 0, made.stderr
    prefix = tmp_path / "here" / "and there"
    prefix.mkdir(parents=True)
    extract(Path(made.stdout.strip()), prefix)
    moved = tmp_path / "moved"
    prefix.rename(moved)
    (moved / "lib/python3.11/site-packages/toy.py").write_text("x = 1\n")
    check = (
        "import sys, sysconfig, ssl, sqlite3, ctypes, lzma, bz2, toy, encodings.idna, zoneinfo, multiprocessing\n"
        "print(sys.prefix, sysconfig.get_path('purelib'), toy.__file__, sysconfig.get_config_var('LIBDIR'))"
    )
    found = subprocess.run([moved / "bin" / "python3", "-c", check], capture_output=True, text=True, env={}, timeout=60)
    assert found.returncode == 0, found.stderr
    *paths, libraries = found.stdout.split()
    packages = moved / "lib/python3.11/site-packages"
    assert paths == [str(moved), str(packages), str(packages / "toy.py")]
    assert libraries.startswith(f"{moved}/lib")
