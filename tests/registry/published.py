"""What a publication leaves in the registry of a test, and what garbage collection leaves of it."""

from dkeras_core.registry import catalog
from dkeras_core.registry.readonly import remove

FILES = ["empty", "manifest.json", "manifest.sha256", "model.keras", "variables/data"]


def content(place, number):
    base = f"{place.root}/models/higgs/versions/{number}"
    return [status.path[len(base) + 1 :] for status in place.storage.walk(base)]


def entries(place):
    return [status.name for status in place.storage.list(f"{place.root}/models/higgs/versions")]


def bury(place, number):
    """Let gc have deleted a version."""
    registry = place.registry
    stone = catalog.Tombstone(entry="e", version=catalog.Summary(number=number))
    place.storage.write_bytes(registry.layout.tombstone("higgs", number), stone.to_bytes())
    remove(place.storage, registry.at("higgs", number).path)
