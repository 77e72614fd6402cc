"""One thin trainer over TRL's, whose loss is a call into theory/objectives."""
