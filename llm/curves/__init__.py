"""Training on the known-target world, measured exactly on the way."""
