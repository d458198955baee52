"""Models of other formats: read without running anything of theirs, refused with a list of what does not fit."""
