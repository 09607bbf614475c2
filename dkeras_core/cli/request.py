"""What `dkeras submit` was asked for, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dkeras_core.config import Pipeline
from dkeras_core.paths import Layout


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    pipeline: Pipeline
    folder: Path
    """Where relative files of the pipeline are looked for: beside the pipeline file."""
    run_id: str
    steps: tuple[str, ...]
    data: Path | None = None
    name: str | None = None
    named_run: bool = False
    """Whether the user named the run; a step alone looks for the run it belongs to otherwise."""
    tag: str | None = None
    """Names the work, for submitters that may be repeated: a live application with this tag is taken for it."""

    @property
    def run_folder(self) -> str:
        return Layout(self.pipeline.root).run(self.run_id)
