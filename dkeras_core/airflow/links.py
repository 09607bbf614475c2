"""Buttons at the task: the application in YARN, Spark's pages, the run's report and its folder.

Airflow asks for the links when a task has ended, which for a deferred one is hours late; so the operator also puts them
where the pages look (:func:`push`) as soon as there is an application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

from dkeras_core.cli import place
from dkeras_core.storage.paths import split_uri
from dkeras_core.yarn.hadoop_config import user_name

if TYPE_CHECKING:
    from dkeras_core.cli.place import Place

KEY = "links"
"""XCom that holds the addresses, name -> address."""


class _Link(BaseOperatorLink):
    name = ""

    def get_link(self, operator, *, ti_key) -> str:
        return (XCom.get_value(key=KEY, ti_key=ti_key) or {}).get(self.name, "")


class YarnLink(_Link):
    name = "YARN"


class SparkLink(_Link):
    name = "Spark UI"


class ReportLink(_Link):
    name = "Report"


class RunLink(_Link):
    name = "Run in HDFS"


LINKS = (YarnLink(), SparkLink(), ReportLink(), RunLink())


def addresses(found: Place, application: str, folder: str, *, report: bool) -> dict[str, str]:
    """Return name -> address; ``folder`` is that of the run, ``report`` whether it has one by now."""
    yarn, hdfs = found.rm.urls[0], found.config.namenode_urls[0]
    path = quote(folder.partition("://")[2].partition("/")[2] if "://" in folder else folder.lstrip("/"))
    made = {
        YarnLink.name: f"{yarn}/cluster/app/{application}",
        SparkLink.name: f"{yarn}/proxy/{application}/",
        RunLink.name: f"{hdfs}/explorer.html#/{path}",
    }
    if report:
        made[ReportLink.name] = _report(hdfs, path)
    return made


def report_of(folder: str) -> str | None:
    """Return the address of the report in a run's or a version's folder, None for one that is not in HDFS."""
    scheme, _, path = split_uri(folder)
    if scheme == "file":
        return None
    return _report(place.find(folder).config.namenode_urls[0], quote(path.lstrip("/")))


def _report(hdfs: str, path: str) -> str:
    return f"{hdfs}/webhdfs/v1/{path}/report.html?op=OPEN&user.name={quote(user_name())}"


def push(ti, links: dict[str, str]) -> None:
    """Keep the addresses with the task instance, where its buttons take them from."""
    ti.xcom_push(key=KEY, value=links)
    for link in LINKS:
        if link.name in links:
            ti.xcom_push(key=link.xcom_key, value=links[link.name])
