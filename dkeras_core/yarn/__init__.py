"""Submission to YARN: Hadoop configuration, ResourceManager REST client, spark-submit, following, killing, explaining failures."""
