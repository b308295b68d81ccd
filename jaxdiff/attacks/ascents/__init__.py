"""Ascents along gradients: from a loss to an image with a larger one, and the directions that they follow."""
