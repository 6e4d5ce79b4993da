"""Data sets, read from the layout in which their makers publish them."""
