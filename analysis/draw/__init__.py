"""Kinds of pictures and tables, one module each."""
