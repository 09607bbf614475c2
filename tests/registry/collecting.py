"""What the tests of garbage collection share: plans without patience, and what stands there."""

from datetime import timedelta

from dkeras_core.registry import collect

NOW = timedelta(0)
DAY = timedelta(days=1)


def plan(registry, keep=2, **options):
    return collect.plan(registry, "higgs", **{"keep": keep, "older_than": NOW} | options)


def names(place, folder):
    return [status.name for status in place.storage.list(f"{place.root}/models/higgs/{folder}")]
