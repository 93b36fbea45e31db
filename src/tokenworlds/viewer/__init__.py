"""Play, watch, record: sessions that front ends (a page, a window, a film) step and show."""
