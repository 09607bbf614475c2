"""The code in docs/ml.md runs as it stands."""

from __future__ import annotations

import re

import pytest


@pytest.mark.slow
def test_the_example_in_the_guide_runs(project_root, spark, tmp_path, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (project_root / "docs/ml.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    names: dict = {}
    for block in blocks:
        block = block.replace("build/ml-example", str(tmp_path / "example"))  # the guide's folder stays the user's
        exec(compile(block, "docs/ml.md", "exec"), names)
    assert names["auc"] > 0.9
    assert names["again"].stages[-1].history == names["history"]
    assert (tmp_path / "example" / "stages").is_dir()
    assert "probability" in capsys.readouterr().out
