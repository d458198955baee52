"""Pages: what every HTML file has in common, its head, its colours, and figures that follow a light or dark screen."""
