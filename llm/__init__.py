"""Language-model training with the objectives of theory/objectives."""
