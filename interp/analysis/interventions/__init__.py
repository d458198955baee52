"""Total effect: the model run again with its biases scaled, in all layers, in one, or in one head."""
