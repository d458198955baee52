"""Puzzles and held-out loss of several checkpoints side by side: figures and their page."""
