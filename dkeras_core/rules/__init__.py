"""Update rules: one distributed algorithm a file, pure NumPy on flat float32 vectors; no socket, no Spark, no Keras."""
