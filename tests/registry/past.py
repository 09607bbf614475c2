"""A registry with a past: versions, promotions, roll-backs and deletions of the last months, written in milliseconds.

Files are written as the protocol leaves them, with times of their own; what the protocol does is tested elsewhere.
"""

import hashlib
import math
import random
from datetime import UTC, datetime, timedelta

from dkeras_core.registry.audit import Before, Entry
from dkeras_core.registry.catalog import Deleted, Summary, Tombstone
from dkeras_core.registry.manifest import MANIFEST, SEAL, FileEntry, Manifest, seal
from dkeras_core.registry.marks import Archived, Mark
from dkeras_core.registry.pointer import Pointer

END = datetime(2026, 11, 23, 1, 12, 40, tzinfo=UTC)
CHECKS = ("integrity", "scores", "signature", "thresholds", "comparison", "significance")


def checks(failed=None):
    return [
        {
            "name": name,
            "passed": name != failed,
            "message": "roc_auc is worse by 0.0041, 95 % interval 0.0012 to 0.0070"
            if name == failed
            else "as it must be",
        }
        for name in CHECKS
    ]


class Past:
    """Writes the past of one model below ``registry``; times are days before the end."""

    def __init__(self, registry, name="higgs", seed=1):
        self.registry, self.name, self.random = registry, name, random.Random(seed)
        self.manifests, self.heads, self.entries = {}, {}, 0

    def publish(self, number, ago, auc=None, **lineage):
        """One version; without a figure it learns a little with its number, and sometimes fails to."""
        rng = self.random
        if auc is None:
            auc = 0.84 + 0.075 * (1 - math.exp(-number / 60)) + rng.gauss(0, 0.0025)
        error = 0.0016
        metrics = {
            "roc_auc": auc,
            "roc_auc_se": error,
            "log_loss": 0.95 - 0.65 * auc + rng.gauss(0, 0.003),
            "ams": 3.6 * auc - 1.2 + rng.gauss(0, 0.03),
            "accuracy": auc - 0.06 + rng.gauss(0, 0.002),
            "rows": 50_000,
            "threshold": 0.5,
        }
        metrics["intervals"] = {
            "roc_auc": [auc - 1.96 * error, auc + 1.96 * error],
            "log_loss": [metrics["log_loss"] - 0.004, metrics["log_loss"] + 0.004],
        }
        month = f"{2026}{number // 30:02d}"
        manifest = Manifest(
            name=self.name,
            run=f"{self.name}-{END - timedelta(days=ago):%Y%m%dT%H%M%S}-{rng.randrange(65536):04x}",
            created=(END - timedelta(days=ago)).replace(microsecond=0),
            user=rng.choice(["train", "train", "train", "anna"]),
            files={"model.keras": FileEntry(size=rng.randrange(4_000_000, 5_000_000), sha256="0" * 64)},
            lineage={
                "pipeline": self.name,
                "data_path": f"/data/higgs/{month}.parquet",
                "data_fingerprint": hashlib.sha256(month.encode()).hexdigest()[:16],
                "environment": hashlib.sha256(str(number // 45).encode()).hexdigest()[:16],
                "code": hashlib.sha256(str(number // 12).encode()).hexdigest()[:16],
                "application": f"application_1763838000000_{number:04d}",
            }
            | lineage,
            metrics=metrics,
        )
        data = manifest.to_bytes()
        self.manifests[number] = manifest, data
        folder = f"{self.registry.layout.versions(self.name)}/{number}"
        self._write(f"{folder}/{MANIFEST}", data)
        self._write(f"{folder}/{SEAL}", seal(data))

    def digest(self, number):
        return hashlib.sha256(self.manifests[number][1]).hexdigest()

    def promote(self, alias, number, ago, action="promote", user="anna", applied=True, **values):
        before, restores = self.heads.get(alias), None
        entry = self._entry(
            ago,
            action=action,
            alias=alias,
            version=number,
            digest=self.digest(number),
            before=Before(version=before[0], entry=before[1]) if before else Before(),
            restores=restores,
            user=user,
            **values,
        )
        if applied:
            self.heads[alias] = number, entry.id
            pointer = Pointer(number, entry.id, entry.digest)
            self._write(self.registry.layout.alias(self.name, alias), pointer.to_bytes())

    def archive(self, number, ago, reason, tags=None):
        entry = self._entry(
            ago, action="archive", version=number, digest=self.digest(number), reason=reason, user="anna"
        )
        archived = Archived(reason=reason, user="anna", time=entry.time)
        mark = Mark(entry=entry.id, archived=archived, tags=tags or {})
        self._write(self.registry.layout.mark(self.name, number), mark.to_bytes())

    def tag(self, number, ago, tags):
        entry = self._entry(
            ago, action="tag", version=number, user="ben", detail={"set": tags, "removed": {"old": "1"}}
        )
        self._write(self.registry.layout.mark(self.name, number), Mark(entry=entry.id, tags=tags).to_bytes())

    def delete(self, number, ago, reason="not among the last 5 versions"):
        entry = self._entry(ago, action="delete", version=number, digest=self.digest(number), reason=reason, user="gc")
        manifest = self.manifests[number][0]
        summary = Summary(
            number=number, created=manifest.created, user=manifest.user, run=manifest.run, digest=entry.digest,
            bytes=4_000_000, files=1, lineage=manifest.lineage, metrics=manifest.metrics,
            deleted=Deleted(time=entry.time, user="gc", reason=reason, entry=entry.id),
        )  # fmt: skip
        self._write(
            self.registry.layout.tombstone(self.name, number), Tombstone(entry=entry.id, version=summary).to_bytes()
        )
        self.registry.storage.delete(f"{self.registry.layout.versions(self.name)}/{number}", recursive=True)

    def _entry(self, ago, **values):
        time, self.entries = END - timedelta(days=ago), self.entries + 1
        id_ = f"{time:%Y%m%dT%H%M%S.%fZ}-{self.entries:08x}"
        entry = Entry(id=id_, name=self.name, time=time, host="edge-1", **values)
        self._write(f"{self.registry.layout.audit(self.name)}/{id_}.json", entry.to_bytes())
        return entry

    def _write(self, path, data):
        self.registry.storage.write_bytes(path, data, overwrite=True)


def usual(registry, versions=24):
    """A model of some months: promotions, one of them forced, a roll-back, tags, an archived version, deletions."""
    past = Past(registry)
    champion = None
    for number in range(1, versions + 1):
        ago = 90 - 89.5 * number / versions
        failed = number == versions // 3
        past.publish(number, ago, auc=0.71 if failed else None, parent=champion, synthetic=True)
        if number % max(4, versions // 7) == 1:
            past.promote("production", number, ago - 0.02, checks=checks() if champion else (), reason=None)
            champion = number
    past.promote("production", 2, 9, user="ben", applied=False)
    past.promote(
        "production", versions - 2, 0.9, forced=True, checks=checks("significance"),
        reason="calibration of the new detector is in; the drop was expected (ticket 4711)",
    )  # fmt: skip
    past.promote("production", champion, 0.3, action="rollback", user="ben", reason="scores drift in the night run")
    past.promote("staging", versions - 1, 0.2, checks=checks())
    past.promote("candidate", versions, 0.1, user="train")
    past.tag(versions - 1, 0.18, {"owner": "trigger-group", "detector": "run3"})
    past.archive(versions // 3, 20, "training stopped early: the learning rate was wrong")
    for number in range(2, versions // 4):
        if number != champion:
            past.delete(number, 5)
    return past
