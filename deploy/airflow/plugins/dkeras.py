"""Goes into Airflow's folder of plugins, for the triggerer."""

from dkeras_core.airflow.plugin import DkerasPlugin  # noqa: F401
