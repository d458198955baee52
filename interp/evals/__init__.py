"""Held-out loss, puzzles, and any task of the lm-evaluation-harness."""
