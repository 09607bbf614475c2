"""Scores rows with a published version: raw rows in, the version's own features applied, score columns out.

``request`` says what is asked and resolves the version once; ``rows`` adds the scores in Spark's Python workers;
``output`` makes the folder appear whole; ``score`` puts them together. Knows Spark and the registry, no YARN.
"""

PHASES = ("model", "score", "check")
"""What a scoring goes through, as progress.json names it."""

RUNS = "score-"
"""What the ids of scorings begin with."""

REQUEST = "score.json"
"""Name of the file in a run's folder that says what is to be scored."""
