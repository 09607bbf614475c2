"""Operators, triggers and sensors for Airflow, and a client of its REST interface.

Imports neither pyspark nor TensorFlow: work is submitted by the command ``dkeras``, so this room runs in Airflow's own
environment. Triggers are found by their dotted name, so that the triggerer needs this package installed.
"""
