"""Text in, labelled contexts out: corpora, tokenizer, spaCy tags on byte-pair tokens, token classes, packing."""
