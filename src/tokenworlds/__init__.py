"""Token-based world-model agents as one reproducible pipeline."""

__version__ = "0.1.0"
