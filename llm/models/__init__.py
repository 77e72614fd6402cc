"""Language models and tokenizers: loading, reward heads, log-probabilities of sequences."""
