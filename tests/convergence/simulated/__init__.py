"""p workers in one process, in the order of real clocks: the rules of dkeras_core, real gradients, real data."""
