"""The papers' figures: one module a figure, data apart from drawing."""
