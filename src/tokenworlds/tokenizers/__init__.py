"""Observations to tokens and back. Import from the modules: a method imports only the tokenizers that it uses."""
