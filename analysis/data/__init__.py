"""Reads, checks and joins scores; nothing here draws."""
