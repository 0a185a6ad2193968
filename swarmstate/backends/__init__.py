"""Stores that keep their state elsewhere; import the one you use."""
