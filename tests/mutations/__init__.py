"""Deliberate faults, at least one for every package, each of which the fast tests have to find.

``python -m tests.mutations`` puts one fault after the other into a copy of the project, runs the tests that should
fail, and prints by which of them each was found. Exit status 1: a fault was found by none.
"""
