"""Two amplification results side by side: what they share, how they differ, and what that says."""
