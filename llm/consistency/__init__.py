"""Transformers trained on the known-target world at many sample sizes, over the exact table's curve."""
