"""What the tests of garbage collection share: plans without patience, and a file system that fails on purpose."""

from datetime import timedelta

from dkeras_core.registry import Registry, collect

NOW = timedelta(0)
DAY = timedelta(days=1)


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


def plan(registry, keep=2, **options):
    return collect.plan(registry, "higgs", **{"keep": keep, "older_than": NOW} | options)


def names(place, folder):
    return [status.name for status in place.storage.list(f"{place.root}/models/higgs/{folder}")]
