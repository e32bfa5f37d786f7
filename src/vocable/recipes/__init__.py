"""Whole jobs as a few readable steps."""
