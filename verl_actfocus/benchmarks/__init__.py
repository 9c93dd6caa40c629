"""Measurements of what this package costs."""
