"""The page: complete, self-contained, honest about damage, small for many versions."""

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from past import Past, checks, usual
from wellformed import WellFormed

from dkeras_core.evaluation import pages
from dkeras_core.registry import Registry, collect, marks, page, page_rows
from dkeras_core.registry.overview import read_model
from dkeras_core.storage.local import LocalStorage
from dkeras_core.yarn.package import package


@pytest.fixture
def registry(tmp_path):
    return Registry(LocalStorage(), str(tmp_path / "root"))


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    """A model of some months; tests leave it as it is."""
    return usual(Registry(LocalStorage(), str(tmp_path_factory.mktemp("past") / "root")))


@pytest.fixture(scope="module")
def html(past):
    return page.render(past.registry)


def test_all_that_happened_is_there(past, html):
    text = WellFormed(html).text
    for expected in (
        "1 model, 20 versions", "higgs", "the newest is version 24 of 22 November 2026; 4 deleted",
        "production version 21 ROC AUC 0.8660 ± 0.0031 +0.0013 against version 22 before",
        "since 2026-11-22 18:00 UTC, by ben scores drift in the night run",
        "staging version 23", "candidate version 24",
        "production rolled back, 22 → 21 2026-11-22 18:00:40 · ben on edge-1",
        "production 21 → 22 FORCED", "calibration of the new detector is in", "1 of 6 checks failed",
        "significance: roc_auc is worse by 0.0041", "staging → 23", "all 6 checks passed",
        "production 21 → 2 NOT APPLIED", "versions 2 to 5 deleted", "not among the last 5 versions",
        "version 8 archived", "version 23 tagged", "owner=trigger-group", "old removed", "8 ARCHIVED",
        "How version 21 came about", "compared with nothing: there was no champion", "new code",
        "same data, environment, pipeline", "SYNTHETIC DATA", past.digest(21), "application_1763838000000_0021",
        "ROC AUC", "Log loss", "AMS", "Accuracy", "Deleted 4 versions", "production, @21", "best, @21",
    ):  # fmt: skip
        assert expected in text, expected
    for number, (manifest, _) in past.manifests.items():
        assert (manifest.run in text) == (number not in (2, 3, 4, 5)), number


def test_it_asks_for_nothing_and_runs_nothing(html):
    parsed = WellFormed(html)
    assert not {"script", "iframe", "object", "embed", "img", "form", "base"} & set(parsed.tags)
    assert all(address.startswith("#") or address == "data:," for address in parsed.addresses), parsed.addresses
    assert not re.search(r"url\(|@import|://", html) and "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html and "max-width: 560px" in html
    targets = {address[1:] for address in parsed.addresses if address.startswith("#")}
    assert targets <= set(parsed.ids) and len(set(parsed.ids)) == len(parsed.ids), targets - set(parsed.ids)


def test_colours_stand_in_one_place():
    own = pages.template("page.css", "dkeras_core.registry")
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgb|hsl", own)
    assert set(re.findall(r"var\((--[\w-]+)", own)) <= set(re.findall(r"(--[\w-]+)", pages.template("report.css")))


def test_what_others_wrote_is_text(registry):
    past = Past(registry)
    evil = "<script>alert('x')</script> & \"quotes\" <b>"
    past.publish(1, 2.0, pipeline=evil)
    past.promote(
        "production", 1, 1.0, reason=evil, user=evil, checks=[{"name": evil, "passed": False, "message": evil}]
    )
    past.tag(1, 0.5, {"note": evil})
    parsed = WellFormed(page.render(registry))
    assert "script" not in parsed.tags and parsed.text.count(evil) >= 5


def test_no_models_no_versions_no_alias(registry):
    assert "Nothing is published below" in WellFormed(page.render(registry)).text
    registry.storage.mkdirs(registry.layout.versions("empty"))
    assert "0 versions" in WellFormed(page.render(registry)).text
    Past(registry).publish(1, 1.0)
    text = WellFormed(page.render(registry)).text
    assert "2 models, 1 version" in text and "No alias names a version yet." in text
    assert "dkeras models promote higgs@1 production" in text and "nothing yet" in text


def garbage(path):
    Path(path).write_bytes(b"\xff{]")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda past, layout: garbage(f"{layout.versions('higgs')}/20/manifest.json"), "versions/20/manifest.json"),
        (lambda past, layout: garbage(layout.alias("higgs", "production")), "aliases/production: holds"),
        (lambda past, layout: garbage(layout.mark("higgs", 23)), "marks/23.json"),
        (lambda past, layout: garbage(layout.tombstone("higgs", 3)), "tombstones/3.json"),
        (lambda past, layout: garbage(f"{layout.audit('higgs')}/{past.heads['staging'][1]}.json"), ".json"),
        (lambda past, layout: Path(f"{layout.audit('higgs')}/{past.heads['staging'][1]}.json").unlink(), ".json"),
        (lambda past, layout: past.registry.storage.delete(f"{layout.versions('higgs')}/23", True), "does not exist"),
    ],
    ids=["manifest", "alias", "mark", "tombstone", "entry", "missing entry", "missing version"],
)
def test_damage_is_named_and_the_rest_is_shown(registry, damage, said):
    past = usual(registry)
    damage(past, registry.layout)
    parsed = WellFormed(page.render(registry))
    assert "Somebody should look at this" in parsed.text and said in parsed.text
    assert past.manifests[18][0].run in parsed.text and "higgs-18" in parsed.ids
    assert "candidate version 24" in parsed.text


def test_a_version_changed_after_its_promotion_is_called_changed(registry):
    past = usual(registry)
    before, _ = past.manifests[23]
    past.publish(23, 1.0)
    text = WellFormed(page.render(registry)).text
    assert "the manifest of version 23 was changed since it was promoted to staging" in text
    assert "staging CHANGED version 23" in text and before.run not in text and "1 finding" in text


def test_a_thousand_versions_stay_small_and_few_requests(registry):
    past = Past(registry)
    for number in range(1, 1001):
        past.publish(number, 100 - number / 10, parent=max(1, number - 50))
        if number % 100 == 50:
            past.promote("production", number, 100 - number / 10)
    asked = []

    class Counted(LocalStorage):
        def open(self, path):
            asked.append(path)
            return super().open(path)

        def list(self, path):
            asked.append(path)
            return super().list(path)

    page.render(registry)  # writes the catalog
    html = page.render(Registry(Counted(), registry.layout.root))
    parsed = WellFormed(html)
    assert len(asked) < 60, len(asked)
    assert len(html) < 900_000 and {f"higgs-{number}" for number in range(1, 1001)} <= set(parsed.ids)
    assert "801 to 900 3 to 13 November 2026" in parsed.text and "1 to 100" in parsed.text
    assert parsed.text.count("ROC AUC of every version") == 0 and html.count("<svg") < 100


def test_a_lineage_ends(registry):
    past = Past(registry)
    for number in range(1, 12):
        past.publish(number, 12 - number, parent=number - 1 or None)

    def numbers():
        return [step["summary"].number for step in page_rows._ancestry(read_model(registry, "higgs"), ["roc_auc"])]

    assert numbers() == [11, 10, 9, 8, 7, 6, 5, 4]
    past.publish(11, 0.5, parent=10)
    past.publish(10, 0.6, parent=11)
    assert numbers() == [11, 10]
    past.publish(11, 0.5, parent=77)
    assert numbers() == [11] and "compared with version 77, which is not known" in page.render(registry)


def test_many_models_are_folded(registry):
    for i in range(5):
        Past(registry, f"model-{i}", seed=i).publish(1, 1.0)
    html = page.render(registry)
    assert html.count("Metrics, lineage, versions and audit of") == 5 and WellFormed(html)
    registry.storage.delete(registry.layout.model("model-0"), recursive=True)
    assert "Metrics, lineage, versions and audit of" not in page.render(registry)


def test_a_cleaning_does_not_push_promotions_off_the_page(registry):
    past = Past(registry)
    for number in range(1, 131):
        past.publish(number, 20 - number / 10)
    past.promote("production", 128, 4.0, reason="the best so far")
    for number in range(120, 0, -1):
        past.delete(number, 1.0 + number / 9999, f"not one of the 5 newest, {20 - number // 10} days old")
    text = WellFormed(page.render(registry)).text.rpartition("Audit")[2]
    assert "the best so far" in text and "versions 1 to 100 deleted" in text
    assert "gc on edge-1 not one of the 5 newest" in text and "days old" not in text and "The audit holds more" in text


def test_what_the_registry_itself_writes_is_understood(registry, folder):
    """The pasts above are written by hand; here every change goes through the engine."""
    for run in range(1, 6):
        registry.publish("higgs", folder, run_id=f"run-{run}", metrics={"roc_auc": 0.8 + run / 100})
    registry.promote("higgs", 3, "production", reason="the first")
    registry.promote("higgs", 5, "production", forced=True, checks=checks("significance"))
    registry.rollback("higgs", "production", reason="too slow")
    marks.tag(registry, "higgs", 4, {"owner": "anna", "old": "yes"})
    marks.tag(registry, "higgs", 4, {"old": None})
    marks.archive(registry, "higgs", 4, "wrong columns")
    outcome = collect.carry_out(registry, collect.plan(registry, "higgs", keep=1, older_than=timedelta(0)))
    assert outcome.deleted == ["higgs@1", "higgs@2", "higgs@4"] and not outcome.failed, outcome
    text = WellFormed(page.render(registry)).text
    for expected in (
        "production version 3 ROC AUC 0.8300 −0.0200 against version 5 before", "too slow",
        "production rolled back, 5 → 3", "production 3 → 5 FORCED", "production → 3", "the first",
        "1 of 6 checks failed", "version 4 tagged", "owner=anna", "old removed", "version 4 archived", "wrong columns",
        "ran in production",
    ):  # fmt: skip
        assert expected in text, expected
    assert "Somebody should look" not in text and "NOT APPLIED" not in text
    assert "versions 1, 2, 4 deleted" in text and "; 3 deleted" in text


def test_metrics_of_its_own_kind_are_shown_when_no_known_one_is_there(registry, folder):
    registry.publish("other", folder, run_id="r", metrics={"mean_error": 2.5, "rows": 9, "best_threshold": 1, "x": "y"})
    parsed = WellFormed(page.render(registry))
    assert "mean error" in parsed.text and "2.5000" in parsed.text and "best threshold" not in parsed.text


@pytest.mark.slow
def test_the_templates_are_read_from_a_zip(past, html, tmp_path):
    """In a job the package is a zip."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from dkeras_core.registry import Registry, page\n"
        "from dkeras_core.storage.local import LocalStorage\n"
        "assert sys.argv[1] in page.__file__, page.__file__\n"
        "sys.stdout.write(page.render(Registry(LocalStorage(), sys.argv[2])))"
    )
    command = [sys.executable, "-c", program, str(package(tmp_path)), past.registry.layout.root]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == len(html)  # but for the time of reading
