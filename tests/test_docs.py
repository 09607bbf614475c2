"""What the pages name is there: links and their headings, files, commands with their options, make targets, imports."""

import re
import shlex
from pathlib import Path

import pytest
from typer.core import TyperGroup

from dkeras_core.cli.app import COMMANDS, load

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = {page: page.read_text() for page in PAGES}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def headings(page):
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", FENCE.sub("", TEXT[page]), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in found}


def code(page):
    """The lines of a page that stand in code, inline or in blocks, without comments."""
    for _, block in FENCE.findall(TEXT[page]):
        yield from (re.sub(r"\s+#.*", "", line).strip() for line in block.replace("\\\n", " ").splitlines())
    for block in re.findall(r"(?:^    .*\n)+", FENCE.sub("", TEXT[page]), re.MULTILINE):
        yield from (re.sub(r"\s{3,}.*", "", line.strip()) for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", FENCE.sub("", TEXT[page]))


@EVERY_PAGE
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT[page]):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and anchor not in headings(there)):
            broken.append(target)
    assert broken == []


def test_every_page_is_linked_from_the_first():
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in TEXT[PAGES[0]]] == []


@EVERY_PAGE
def test_files_that_are_named_are_there(page):
    rooms = r"(?:dkeras_core|tests|docs|dags|envs|deploy|[a-z_]+(?=/[a-z_/]+\.py))"
    missing = []
    for line in code(page):
        for name in re.findall(rf"(?<![\w./>…-])({rooms}/[\w./*-]+)(?![\w./*-]*[<…])", line):
            if not any(list(place.glob(name.rstrip("./"))) for place in (ROOT, ROOT / "dkeras_core")):
                missing.append(name)
    assert missing == ["dkeras_core/rules/fedadam.py"] * (page.stem == "adding-an-algorithm")  # which the reader makes


def words(line):
    """The words of a shell command; None where it is none."""
    try:
        return shlex.split(line.removeprefix("$ "))
    except ValueError:
        return None


def commands(page):
    """Calls of ``dkeras`` on a page, each as a list of words after the command's name."""
    for line in code(page):
        for part in re.split(r"[|;(]|&&|\$\(", line):
            found = words(part.strip())
            if found and found[0].rpartition("/")[2] == "dkeras" and len(found) > 1:
                yield found[1:]


def unknown(arguments):
    """What of a call of ``dkeras`` its command does not know; None when it knows all."""
    name, *rest = arguments
    if name.startswith("-"):
        options = {"--help", "--version", "--debug", "--install-completion", "--show-completion"}
        return name if name not in options else None
    if name not in COMMANDS:
        return name if re.fullmatch(r"[a-z-]+", name) else None  # COMMAND, … stand for any
    command = load(name)
    while isinstance(command, TyperGroup):
        if not rest or not re.fullmatch(r"[a-z-]+", rest[0]):
            break
        if rest[0] not in command.commands:
            return f"{name} {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    strange = [option for option in options if option not in known | {"--help"}]
    return f"{name}: {strange}" if strange else None


@EVERY_PAGE
def test_commands_and_their_options_exist(page):
    assert [wrong for call in commands(page) if (wrong := unknown(call))] == []


@pytest.fixture(scope="module")
def options():
    """Every option of every command."""

    def of(command):
        yield from (option for parameter in command.params for option in parameter.opts)
        for one in command.commands.values() if isinstance(command, TyperGroup) else ():
            yield from of(one)

    return {option for name in COMMANDS for option in of(load(name))}


OTHERS = {"--conf": "spark-submit", "--no-deps": "pip"}


@EVERY_PAGE
def test_options_that_are_named_alone_exist(page, options):
    named = re.findall(r"`(--[a-z][\w-]+)[^`\n]*`", FENCE.sub("", TEXT[page]))
    assert [one for one in named if one not in options | set(OTHERS)] == []


def test_mistakes_in_commands_are_found():
    assert unknown(["models", "promte", "higgs@7"]) == "models promte" and unknown(["submitt"]) == "submitt"
    assert unknown(["models", "promote", "higgs@7", "--forc", "why"]) == "models: ['--forc']"
    assert unknown(["models", "promote", "higgs@7", "production", "--force", "why"]) is None
    assert sum(len(list(commands(page))) for page in PAGES) > 70


@EVERY_PAGE
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [found[1] for line in code(page) if (found := re.search(r"(?:^|[\s`])make ([a-z-]+)\b(?!=)", line))]
    assert [target for target in asked if target not in targets] == []


@EVERY_PAGE
def test_what_is_imported_exists(page):
    missing = []
    for module, names in re.findall(r"^from (dkeras_core[\w.]*) import (\([^)]+\)|.+)$", TEXT[page], re.MULTILINE):
        names = re.findall(r"\w+", re.sub(r"#.*| as \w+", "", names))
        missing += [f"{module}.{name}" for name in names if not defines(module, name)]
    assert missing == []


def defines(module, name):
    """Whether a module of the package has a name, without importing what it imports."""
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if (path / name).is_dir() or (path / f"{name}.py").is_file():
        return True
    return file.is_file() and re.search(rf"\b{name}\b", file.read_text()) is not None
