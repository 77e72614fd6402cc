"""The known-target world: a finite language as text, tiny models of it, and their exact distance to the target."""
