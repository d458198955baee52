"""The notebook explorer: one head, one class, one text, and a dial for the bias."""
