"""Tables and figures that the papers show."""
