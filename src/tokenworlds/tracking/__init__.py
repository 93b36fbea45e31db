"""The journal of a run, and MLflow as a sink that is fed from it."""
