"""From what a row shares with an item to a verdict: contaminated, variant, template, or nothing.

    contaminated   the item itself, whole or in good part, whatever its case, layout or quotes
    variant        the same problem with other numbers
    template       the words that many items share, and not those that this item alone has

The bounds were chosen on one half of a planted set and are measured on the other; docs/decontaminate.md has the figures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbeck.curate._contamination_kernel import LENGTH, MASS, OTHER, PART, RAW, RUN, RUN_MASS, SAME, WEIGHTED

NOTHING, TEMPLATE, VARIANT, CONTAMINATED = 0, 1, 2, 3
NAMES = ("", "template", "variant", "contaminated")


def verdicts(lines: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return the verdict on each line of FEATURES, taken by itself."""
    answer = lines[:, PART].astype(np.int64) % 2 == 1
    weighted, raw, run, length = lines[:, WEIGHTED], lines[:, RAW], lines[:, RUN], lines[:, LENGTH]
    numbers = lines[:, SAME] + lines[:, OTHER]
    renumbered = (lines[:, OTHER] >= 1) & (lines[:, OTHER] > 0.15 * numbers)
    whole = (weighted >= 0.9) & (raw >= 0.85)
    # one telling phrase is half of a short item, and may be anybody's: the greatest common divisor (gcd) of two
    held = ((weighted >= 0.6) & (length >= 24)) | ((weighted >= 0.8) & (length >= 16))
    edited = held & (raw >= 0.6) & (lines[:, MASS] >= 3)
    part = (weighted >= 0.32) & (raw >= 0.4) & (run >= 14) & (lines[:, RUN_MASS] >= 2.2) & (length >= 20)
    # an answer alone: worked solutions are the item's own, a short function or a number may be anybody's
    own_answer = (weighted >= 0.7) & (lines[:, MASS] >= 12) & (run >= 20)
    found = np.where(answer, own_answer, whole | edited | (part & ~renumbered))
    other = found & renumbered & np.where(answer, False, whole | edited)
    shared = ~answer & ~found & (raw >= 0.6) & (length >= 10) & (weighted < 0.6)
    out = np.where(found, CONTAMINATED, np.where(shared, TEMPLATE, NOTHING)).astype(np.int8)
    out[other] = VARIANT
    out[answer & found & renumbered] = NOTHING
    return out
