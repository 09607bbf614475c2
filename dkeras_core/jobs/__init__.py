"""Entry points for spark-submit: preprocess, train, evaluate, publish, alone or as one application."""
