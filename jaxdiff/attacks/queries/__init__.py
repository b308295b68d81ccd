"""Attacks without gradients: they ask for losses, for decisions, or another classifier."""
