"""Reference log-probabilities and oracle rewards, computed once and joined to the data by id."""
