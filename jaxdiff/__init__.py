"""jaxdiff: diffusion models and adversarial robustness, as pure functions in JAX."""

__version__ = "0.1.0"
