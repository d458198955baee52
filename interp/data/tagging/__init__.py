"""Documents with a class for every token, tagged by spaCy while the model runs."""
