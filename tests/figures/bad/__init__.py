"""Figures that go wrong, copied beside good ones by the tests that build in processes of their own."""
