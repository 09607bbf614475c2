"""HTML pages that open offline: the layout, the look and the words that the report and the registry's page share."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from dkeras_core.evaluation import text

if TYPE_CHECKING:
    import jinja2

_SHARED = "dkeras_core.evaluation"


def environment(package: str = _SHARED) -> jinja2.Environment:
    """Return the templates of a package, which may extend ``layout.html`` and take from ``parts.html``."""
    import jinja2

    def load(name: str) -> str:
        shared = name in ("layout.html", "parts.html")
        return template(name, _SHARED if shared else package)

    made = jinja2.Environment(loader=jinja2.FunctionLoader(load), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters.update(metric=text.metric, count=text.count, seconds=text.seconds, size=text.size, label=text.label)
    made.globals.update(share=text.share)
    return made


def template(name: str, package: str = _SHARED) -> str:
    """Return the text of a file below ``templates/`` of a package."""
    # importlib.resources reads from a zip on an executor as well as from a checkout
    return resources.files(package).joinpath("templates", name).read_text("utf-8")
