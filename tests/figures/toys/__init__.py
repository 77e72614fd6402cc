"""A gallery of figures made up for the tests of the machinery."""
