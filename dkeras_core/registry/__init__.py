"""The model registry in HDFS paths: immutable numbered versions, published by rename without overwrite."""
