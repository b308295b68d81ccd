"""One perturbation for many images: added to all of them, or a patch that is put into them."""

from jaxdiff.attacks.universal.perturbation import (
    apply_universal,
    fooling_rate,
    universal_deepfool,
    universal_pgd,
    universal_step,
)

__all__ = ["apply_universal", "fooling_rate", "universal_deepfool", "universal_pgd", "universal_step"]
