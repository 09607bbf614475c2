"""What ties rules, exchange, learning and data together: the worker, the driver and the launchers."""
