"""The truth about one objective on one page: consistency, rate, existence, robustness, gradient, equivalences."""
