"""Corpora: what text is read, and how each kind of file becomes documents."""
