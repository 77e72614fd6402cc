"""Not a figure: what figures share."""
