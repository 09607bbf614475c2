"""Local training of a Keras model on one core: the model as a flat parameter vector, and windows of local steps."""
