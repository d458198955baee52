"""The panels of the page, in the order of a reader's questions."""
