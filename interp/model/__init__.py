"""Models with unlearned head biases: configuration, components, hooks, checkpoints."""
