"""Studies beyond the papers, R1 to R15: a module for each, named by its id."""
