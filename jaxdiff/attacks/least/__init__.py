"""Minimum-norm attacks: the nearest image that loses its label."""
