"""Token classes: partitions of a text's tokens, built in or one's own."""
