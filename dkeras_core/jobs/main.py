"""The entry point for spark-submit: runs steps of a pipeline in one application, or scores rows.

``spark-submit ... main.py --root <root> --run <run id> --steps preprocess,train,evaluate,publish``
``spark-submit ... main.py --root <root> --run <run id> --score``

The pipeline is read from ``<root>/runs/<run id>/pipeline.yaml``, where the submitter put it; what is to be scored from
``score.json`` there. With ``--tag`` the application ends at once when another one with that tag does the work already.
Whatever happens else is written to ``result.json`` in the same folder; the exit status is that of the error.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, help="root folder in HDFS, such as /dkeras")
    parser.add_argument("--run", required=True, help="run id: the folder below <root>/runs")
    parser.add_argument("--steps", default="preprocess,train,evaluate,publish", help="comma-separated")
    parser.add_argument("--archive", default=None, help="HDFS path of the environment archive, for the lineage")
    parser.add_argument("--tag", default=None, help="YARN tag of the work, which only one application may do")
    parser.add_argument("--score", action="store_true", help="score rows with a published version instead")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the steps; return the exit status."""
    options = arguments(argv)
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.appName(f"dkeras-{options.run}").getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    try:
        if options.tag:
            from dkeras_core.jobs.elder import YIELDED, refuses_to_double

            if refuses_to_double(options.tag, spark.sparkContext.applicationId):
                return YIELDED
        if options.score:
            from dkeras_core.jobs.score import run_score

            return run_score(spark, root=options.root, run_id=options.run)
        from dkeras_core.jobs.steps import run_steps

        return run_steps(
            spark,
            root=options.root,
            run_id=options.run,
            steps=[step for step in options.steps.split(",") if step],
            archive=options.archive,
            tag=options.tag,
        )
    finally:
        spark.stop()


if __name__ == "__main__":
    try:
        status = main()
    except Exception:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # TensorFlow's and py4j's threads may keep an interpreter alive long after the work is done
    os._exit(status)
