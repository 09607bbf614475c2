"""What the manifests of a model say, for listings: five requests, however many versions there are.

``catalog/summary.json`` keeps what was read before. It is a cache and never the truth: an item counts only while the
folder or file that it was read from has the same time of change and size; what is missing is read and added. So nobody
has to keep it, anybody may delete it, and who promotes, verifies or loads does not look at it.
"""

from __future__ import annotations

import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from dkeras_core.errors import PathMissing, RegistryError, StorageError
from dkeras_core.registry import names
from dkeras_core.registry.manifest import Lineage
from dkeras_core.registry.marks import Archived, Mark
from dkeras_core.registry.verify import read_sealed

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry
    from dkeras_core.storage.base import FileStatus

FORMAT = 1
FEW = 8
"""Items that a reader may find missing before it writes the catalog anew."""

_READERS = 16


class Deleted(BaseModel):
    """When (UTC), by whom and why a version was deleted; ``entry`` is the id of the audit's."""

    model_config = ConfigDict(frozen=True)

    time: AwareDatetime
    user: str
    reason: str
    entry: str | None = None


class Summary(BaseModel):
    """A version in brief: what its manifest says, and what is said of it.

    ``digest`` is the SHA-256 (hex) of manifest.json; ``bytes`` and ``files`` are sum and number of the files that it
    lists. When it is missing, damaged or of a format to come, ``problem`` says so, and these are None.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    created: AwareDatetime | None = None
    user: str | None = None
    run: str | None = None
    digest: str | None = None
    bytes: int | None = None
    files: int | None = None
    lineage: Lineage = Lineage()
    metrics: dict[str, Any] = {}
    problem: str | None = None
    tags: dict[str, str] = {}
    archived: Archived | None = None
    deleted: Deleted | None = None


class Tombstone(BaseModel):
    """The content of tombstones/<n>.json: what the version was; ``entry`` is the id of the audit's of its deletion."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    entry: str
    version: Summary

    def to_bytes(self) -> bytes:
        return f"{self.model_dump_json(indent=1)}\n".encode()


Value = TypeVar("Value", Summary, Mark, Tombstone)


class _Item(BaseModel, Generic[Value]):
    """What was read, and the state of the folder or file that it was read from."""

    modified: float
    size: int
    value: Value

    def is_of(self, status: FileStatus) -> bool:
        return (self.modified, self.size) == (status.modified, status.size)


class _File(BaseModel):
    """The content of catalog/summary.json: items by the version's number."""

    format: Literal[1]
    versions: dict[int, _Item[Summary]] = {}
    marks: dict[int, _Item[Mark]] = {}
    tombstones: dict[int, _Item[Tombstone]] = {}


Kind = Literal["versions", "marks", "tombstones"]


def summaries(registry: Registry, name: str, *, deleted: bool = False) -> list[Summary]:
    """Return all versions of a model in brief, the newest first; with ``deleted`` also those that gc has deleted.

    What cannot be read does not end the listing: it stands in ``Summary.problem``. StorageError when the file system
    does not answer.
    """
    catalog = Catalog(registry, names.model_name(name))
    # In this order: a version that is deleted meanwhile is found at least once.
    versions, said, gone = (catalog.look(kind) for kind in ("versions", "marks", "tombstones"))
    if catalog.found > FEW:
        catalog.save()
    result = {number: _living(number, versions[number], said.get(number)) for number in versions.keys() - gone.keys()}
    if deleted:
        result |= {number: tombstone.version for number, tombstone in gone.items()}
    return [result[number] for number in sorted(result, reverse=True)]


def tombstone(registry: Registry, name: str, number: int) -> Summary | None:
    """Return what a deleted version was, ``deleted`` saying when, by whom and why; None when there is no tombstone."""
    status = registry.storage.status(registry.layout.tombstone(name, number))
    return _tombstone(registry, status, number).version if status else None


def tombstones(registry: Registry, name: str) -> set[int]:
    """Return the numbers of all deleted versions, in one request."""
    return set(_there(registry, name, "tombstones"))


class Catalog:
    """What one process knows of a model: at first what the file holds, then what it has read itself.

    ``found`` counts the items that the file did not hold.
    """

    def __init__(self, registry: Registry, name: str):
        self._registry, self._name, self._path = registry, name, registry.layout.catalog(name)
        self.found = 0
        self._known = _File(format=FORMAT)
        with contextlib.suppress(StorageError, ValidationError):
            self._known = _File.model_validate_json(registry.storage.read_bytes(self._path))

    def look(self, kind: Kind) -> dict[int, Summary | Mark | Tombstone | RegistryError]:
        """Return what stands in a folder now, by number; a RegistryError in the place of what cannot be read."""
        there, known = _there(self._registry, self._name, kind), getattr(self._known, kind)
        known = {number: known[number] for number in there if number in known and known[number].is_of(there[number])}
        missing = sorted(there.keys() - known.keys())
        with ThreadPoolExecutor(_READERS) as readers:
            read = dict(
                zip(missing, readers.map(lambda number: self._read(kind, there[number], number), missing), strict=True)
            )
        new = {
            number: _Item(modified=there[number].modified, size=there[number].size, value=value)
            for number, value in read.items()
            if isinstance(value, BaseModel)
        }
        self.found += len(new)
        setattr(self._known, kind, known | new)
        problems = {number: value for number, value in read.items() if isinstance(value, RegistryError)}
        return {number: item.value for number, item in (known | new).items()} | problems

    def add(self, number: int) -> None:
        """Read one version, which was published since the last look."""
        version = self._registry.at(self._name, number)
        status = self._registry.storage.status(version.path)
        found = self._read("versions", status, number) if status else None
        if isinstance(found, Summary):
            self._known.versions[number] = _Item(modified=status.modified, size=status.size, value=found)

    def save(self) -> None:
        """Write the file anew, where this user may; nobody depends on it."""
        data = self._known.model_dump_json(exclude_defaults=True).encode()
        with contextlib.suppress(StorageError):
            self._registry.storage.write_atomic(self._path, data, mode=0o644)

    def _read(self, kind: Kind, status: FileStatus, number: int) -> BaseModel | RegistryError | None:
        """Read one item; None when it went away since it was listed."""
        try:
            return _READ[kind](self._registry, status, number)
        except PathMissing:
            return None
        except RegistryError as error:
            return error if self._registry.storage.exists(status.path) else None


def _there(registry: Registry, name: str, kind: Kind) -> dict[int, FileStatus]:
    """Return what stands in a folder, by number."""
    try:
        listed = registry.storage.list(getattr(registry.layout, kind)(name))
    except PathMissing:
        return {}
    suffix = "" if kind == "versions" else ".json"
    found = {}
    for status in listed:
        number = names.version_number(status.name.removesuffix(suffix))
        if number is not None and status.name.endswith(suffix) and status.is_dir == (kind == "versions"):
            found[number] = status
    return found


def _living(number: int, version: Summary | RegistryError, mark: Mark | RegistryError | None) -> Summary:
    if isinstance(version, RegistryError):
        version = Summary(number=number, problem=version.what)
    if isinstance(mark, RegistryError):
        return version.model_copy(update={"problem": version.problem or mark.what})
    if mark is None:
        return version
    return version.model_copy(update={"tags": mark.tags, "archived": mark.archived})


def _version(registry: Registry, status: FileStatus, number: int) -> Summary:
    data, manifest = read_sealed(registry.storage, status.path)
    return Summary(
        number=number,
        created=manifest.created,
        user=manifest.user,
        run=manifest.run,
        digest=hashlib.sha256(data).hexdigest(),
        bytes=sum(entry.size for entry in manifest.files.values()),
        files=len(manifest.files),
        lineage=manifest.lineage,
        metrics=manifest.metrics,
    )


def _mark(registry: Registry, status: FileStatus, number: int) -> Mark:
    return Mark.from_bytes(registry.storage.read_bytes(status.path), status.path)


def _tombstone(registry: Registry, status: FileStatus, number: int) -> Tombstone:
    try:
        return Tombstone.model_validate_json(registry.storage.read_bytes(status.path))
    except ValidationError as error:
        # That it stands there says enough: the version was deleted.
        gone = Deleted(time=datetime.fromtimestamp(status.modified, UTC), user=status.owner, reason="unknown")
        problem = f"{status.path}: {error.errors()[0]['msg']}"
        return Tombstone(entry="", version=Summary(number=number, problem=problem, deleted=gone))


_READ = {"versions": _version, "marks": _mark, "tombstones": _tombstone}
