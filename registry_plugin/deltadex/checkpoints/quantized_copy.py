"""Sampled weights, used to detect quantized copies of a model.

Rounding is noise: it has a size that the number of bits allows, and no direction. Another finetune lacks the step from
the base to the model. So a copy is one whose weights are as near as its bits allow, and that has this step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deltadex.checkpoints.merge_check import Imprint

#: Largest relative error of rounding to a number of bits, as a multiple of 1 / 2^bits. Measured (tests/checkpoints):
#: 1.4 to 1.8 for integers in groups, 3 for whole rows, 7 for 8-bit floats, whose steps are relative.
_ERROR_STEPS = 8.0
#: At 4 bits and fewer: quantized models that err more are of no use.
_LARGEST_ERROR = 0.5
#: Share of the step from the base to the model that a copy has: all of it, and another finetune none.
_LEAST_SHARE, _MOST_SHARE = 0.5, 1.5
#: Largest standard error of the share with which copies and other finetunes can still be told apart.
_SHARE_ERROR = 0.2


@dataclass(frozen=True)
class QuantizedCopy:
    """Evidence that a model is another one, quantized.

    Attributes
    ----------
    bits
        Mean bits per quantized weight.
    error
        ||Wq - W|| / ||W|| over the sampled weights.
    """

    bits: float
    error: float

    def __str__(self) -> str:
        return f"the same model, quantized to {self.bits:.3g} bits: relative error {self.error:.3f} of sampled weights"


def quantized_copy(one: Imprint, other: Imprint) -> QuantizedCopy | None:
    """Return the evidence that one of two models is the other one, quantized; None if it is not, or this is unknown.

    It is unknown where the step from the base to the model is too small beside the rounding.
    """
    copy, model = sorted((one, other), key=lambda imprint: imprint.bits or np.inf)
    if copy.bits is None or copy.base is None or copy.bits == model.bits or len(copy.values) != len(model.values):
        return None
    weights = model.values if model.updates is None else model.values + model.updates
    known = np.isfinite(copy.base) & np.isfinite(copy.values) & np.isfinite(weights)
    quantized, plain, base = (values[known].astype(np.float64) for values in (copy.values, weights, copy.base))
    step, noise = plain - base, quantized - plain
    length = float(step @ step)
    if not length:
        return None
    share = 1 + float(noise @ step) / length
    # of the noise in the direction of the step, where the step is not zero
    share_error = float(np.sqrt((noise**2) @ (step**2))) / length
    error = float(np.linalg.norm(noise) / np.linalg.norm(plain))
    is_near = error <= min(_ERROR_STEPS / 2**copy.bits, _LARGEST_ERROR)
    is_step = _LEAST_SHARE <= share <= _MOST_SHARE and share_error <= _SHARE_ERROR
    return QuantizedCopy(copy.bits, error) if is_near and is_step else None
