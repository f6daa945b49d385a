"""Data sets: what is compared, and how it is prepared from what users hold."""
