"""Curves of runs side by side, as figures and as a page."""
