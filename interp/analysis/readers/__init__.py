"""What an analysis asks of a model, whatever the model is: `Reader`, ours, and TransformerLens' bridge."""
