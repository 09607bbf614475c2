"""File systems that fail: at the operation of a chosen number, or in methods that a test replaces."""

from __future__ import annotations

import threading
from enum import StrEnum

from dkeras_core.errors import StorageError
from dkeras_core.registry import Registry
from dkeras_core.storage.base import Storage


class Fault(StrEnum):
    """What happens at the chosen operation."""

    BEFORE = "fails before"
    AFTER = "fails after"  # done, but the caller is told that it failed
    REPEAT = "repeats"  # done twice, as by a client that sent it again because the first answer was lost
    DIES_BEFORE = "dies before"  # the process ends: no operation of it follows, its cleaning up neither
    DIES_AFTER = "dies after"
    HANG = "hangs"  # waits until it is let go on, then goes on as if nothing had been


class Killed(BaseException):
    """The process is dead."""


class FaultyStorage(Storage):
    """Counts the operations on ``inner``, and lets the one numbered ``at`` (from 0) suffer ``fault``."""

    def __init__(self, inner: Storage, fault: Fault | None = None, at: int = -1):
        self._inner, self._fault, self._at = inner, fault, at
        self._lock, self._dead = threading.Lock(), False
        self.operations: list[str] = []
        self.hanging, self.released = threading.Event(), threading.Event()

    def clean(self, path):
        return self._inner.clean(path)

    def _do(self, name, *args, **settings):
        operation = getattr(self._inner, name)
        if self._dead:
            raise Killed
        with self._lock:
            number = len(self.operations)
            self.operations.append(f"{name} {args[0] if name != '_put_file' else args[1]}")
        if number != self._at:
            return operation(*args, **settings)
        match self._fault:
            case Fault.BEFORE:
                raise StorageError(f"injected before {name}")
            case Fault.DIES_BEFORE:
                self._dead = True
                raise Killed
            case Fault.HANG:
                self.hanging.set()
                assert self.released.wait(60)
                return operation(*args, **settings)
        result = operation(*args, **settings)
        if self._fault is Fault.REPEAT:
            return operation(*args, **settings)
        if hasattr(result, "close"):
            result.close()
        if self._fault is Fault.AFTER:
            raise StorageError(f"injected after {name}")
        self._dead = True
        raise Killed


def _primitive(name):
    return lambda self, *args, **settings: self._do(name, *args, **settings)


# Whatever a storage has to implement is an operation that can fail, so that a new one is in the table by itself.
for _name in Storage.__abstractmethods__ - {"clean"}:
    setattr(FaultyStorage, _name, _primitive(_name))
FaultyStorage.__abstractmethods__ = frozenset()


def other(registry, **methods):
    """The same registry, through a file system of which some methods are replaced: method(real, *arguments)."""
    kind = type(registry.storage)

    class Changed(kind):
        def __init__(self):
            self.__dict__ = dict(registry.storage.__dict__)

    for name, method in methods.items():
        real = getattr(registry.storage, name)
        setattr(Changed, name, staticmethod(lambda *a, _m=method, _r=real, **k: _m(_r, *a, **k)))
    return Registry(Changed(), registry.layout.root)
