"""Training: settings, the loop, states to resume from, many processes."""
