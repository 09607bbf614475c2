"""Where a Spark driver's parameter server binds, and what it tells executors."""

from __future__ import annotations

from dkeras_core.training.driver import ServerSettings


def server_settings(spark) -> ServerSettings:
    """Bind to ``spark.driver.bindAddress`` and advertise ``spark.driver.host``: what reaches Spark reaches us."""
    conf = spark.sparkContext.getConf()
    advertise = conf.get("spark.driver.host")
    return ServerSettings(host=conf.get("spark.driver.bindAddress", advertise), advertise=advertise)
