"""Whether a registry is sound after what was done to it: the audit explains its aliases, and nothing is left over."""

import itertools
from datetime import timedelta

from dkeras_core.registry import Registry, collect

NAME = "higgs"
QUICK = {"duration": 0.25}  # seconds until a holder of the lease counts as dead
AT_ONCE = timedelta(0)


def explained(registry: Registry) -> None:
    """The audit explains what the aliases name: each entry in effect follows from the one before it."""
    events = [event.entry for event in registry.history(NAME) if event.applied]
    for alias, number in registry.aliases(NAME).items():
        mine = [entry for entry in events if entry.alias == alias]
        assert mine[0].version == number and registry.pointer(NAME, alias).entry == mine[0].id
        assert mine[0].digest == registry.digest(NAME, number)
        for newer, older in itertools.pairwise(mine):
            assert (newer.before.version, newer.before.entry) == (older.version, older.id)
        assert mine[-1].before.entry is None
    deleted = {entry.version for entry in events if entry.action == "delete"}
    assert not deleted & set(registry.versions(NAME))


def tidy(registry: Registry) -> None:
    """After a collection that waits for nobody, nothing stands there that belongs to no version and no change."""
    plan = collect.plan(registry, NAME, keep=1000, older_than=AT_ONCE, stale_after=AT_ONCE)
    assert not plan.versions
    collect.carry_out(registry, plan, **QUICK)
    model = registry.layout.model(NAME)
    names = [status.path[len(model) + 1 :] for status in everything(registry.storage, model)]
    assert [name for name in names if any(part.startswith(".") for part in name.split("/"))] == []
    assert len([name for name in names if name.startswith("leases/")]) <= 2


def everything(storage, folder):
    """All files and folders below a folder, empty ones too."""
    for status in storage.list(folder):
        yield status
        if status.is_dir:
            yield from everything(storage, status.path)
