"""Streaming measurements of what the bias directions of heads do to attention."""
