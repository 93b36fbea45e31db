"""Benchmarks beside the hot paths; none of them is a test."""
