"""What people see: the page and its panels, figures, the notebook explorer."""
