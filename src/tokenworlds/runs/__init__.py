"""Finished runs as files: which run it is, with which settings, and whether its folder is whole."""
