"""What is measured in the one pass over a corpus, and what is read from the weights."""
