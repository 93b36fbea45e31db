"""Run a suite on many GPUs or machines: what is missing, where it runs, what came of it."""
