"""Distributed training of Keras models on Hadoop clusters: rules, exchange, learning, and the jobs around them.

Imports point one way: rules <- exchange <- training <- ml, jobs <- cli, airflow. Importing this package
imports neither Keras nor Spark; the rooms that need them import them when they are used.
"""

__version__ = "0.1.0"
