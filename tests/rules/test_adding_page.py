"""docs/adding-an-algorithm.md is followed to the letter, and what it makes passes the common test."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "adding-an-algorithm.md"
REGISTER = "from fedadam import FedAdam\nfrom dkeras_core.rules.registry import RULES\nRULES[FedAdam.name] = FedAdam\n"


@pytest.fixture(scope="module")
def blocks():
    """The page's code: the rule, the line of the registry, the row of the common test."""
    rule, line, row = re.findall(r"^```(?:python|diff)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return rule, line.removeprefix("+"), row


def test_it_takes_at_most_60_lines_of_code(blocks):
    """The rule with its docstring; and all code of the page, without docstring and blank lines."""
    rule, _, row = blocks
    (documented,) = (node.body[0] for node in ast.walk(ast.parse(rule)) if isinstance(node, ast.ClassDef))
    lines = rule.splitlines()
    code = [line for line in lines[: documented.lineno - 1] + lines[documented.end_lineno :] if line.strip()]
    assert 20 < len(lines) <= 60
    assert 20 < len(code) + len(row.splitlines()) + 2 <= 60


def test_the_algorithm_of_the_page_passes_the_common_test(blocks, tmp_path):
    rule, line, row = blocks
    assert line == "from dkeras_core.rules.fedadam import FedAdam\n"
    (tmp_path / "fedadam.py").write_text(rule)
    (tmp_path / "conftest.py").write_text(REGISTER + (HERE / "conftest.py").read_text().partition("annotations\n")[2])
    common = (HERE / "test_common.py").read_text()
    assert common.count("CASES = {\n") == 1
    (tmp_path / "test_common.py").write_text(common.replace("CASES = {\n", "CASES = {\n" + row))
    (tmp_path / "test_contract.py").write_text((HERE / "test_contract.py").read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path)]
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-k", "fedadam or every_rule"],
        env={"PYTHONPATH": f"{tmp_path}:{HERE.parents[1]}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) > 10
    assert "skipped" not in run.stdout
