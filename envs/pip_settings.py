"""Prints the user's pip configuration (files and PIP_* variables) as shell exports of the variables that uv reads.

pip and uv do not share a configuration; a site that has set an internal index, a certificate or a proxy for pip has
said it once and should not have to say it again. Variables of uv that are set already win. Nothing is stored.
"""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys

LISTS = {
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
}
SINGLE = {"index-url": ["UV_DEFAULT_INDEX"], "cert": ["SSL_CERT_FILE"], "client-cert": ["SSL_CLIENT_CERT"],
          "proxy": ["HTTP_PROXY", "HTTPS_PROXY"]}  # fmt: skip


def pip_settings(listing: str) -> dict[str, str]:
    """Return pip's settings by option name from the output of ``pip config list`` (later and narrower ones win)."""
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        name, separator, value = line.partition("=")
        section, _, option = name.rpartition(".")
        rank = {"global": 0, "install": 1, ":env:": 2}.get(section)
        if separator and rank is not None and rank >= found.get(option, (0, ""))[0]:
            found[option] = (rank, ast.literal_eval(value))
    return {option: value for option, (_, value) in found.items()}


def uv_variables(settings: dict[str, str]) -> dict[str, str]:
    """Translate pip's settings into the environment variables of uv."""
    variables = {}
    for option, (variable, separator) in LISTS.items():
        if settings.get(option, "").strip():
            variables[variable] = separator.join(settings[option].split())
    for option, names in SINGLE.items():
        if settings.get(option, "").strip():
            variables |= dict.fromkeys(names, settings[option].strip())
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        variables["UV_NO_INDEX"] = "1"
    if "UV_INDEX" in variables:
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip looks into all of them; the hashes make that safe
    return variables


def main() -> None:
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    for name, value in uv_variables(pip_settings(listing)).items():
        if name not in os.environ:
            print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
