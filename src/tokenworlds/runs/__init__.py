"""Finished runs as files: identity, settings, integrity of the folder, and columns of the collected tables."""
