"""Arrays and numbers of numpy on their way between a candidate and its tests, where numpy was let in: type, shape and bytes.

    form(numpy.arange(2, dtype="int8"))             ["numpy", "|i1", [2], "0001"]
    value(["numpy", "|i1", [2], "0001"])            array([0, 1], dtype=int8), made of this process's own numpy

Without this the tests would hold a handle, which equals nothing. Booleans, integers, floats and complex numbers only: an array of
objects is not plain.
"""

from __future__ import annotations

import re
import sys
from typing import Any

MARK = "numpy"
PLAIN = re.compile(r"[<>|=][biufc][0-9]{1,2}")
"""The dtypes that are sent, as numpy writes them."""


def form(value: Any) -> list[Any] | None:
    """Return the form of an array or a number of numpy, and None for everything else."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, (numpy.ndarray, numpy.generic)) or not PLAIN.fullmatch(value.dtype.str):
        return None
    shape = list(value.shape) if isinstance(value, numpy.ndarray) else None
    return [MARK, value.dtype.str, shape, value.tobytes().hex()]


def value(body: list[Any]) -> Any:
    """Return what `form` took apart. Raises ValueError, TypeError or LookupError if it was not made by `form`."""
    numpy = sys.modules.get("numpy")
    mark, kind, shape, data = body
    if numpy is None or mark != MARK or not PLAIN.fullmatch(kind):
        raise ValueError("not an array")
    made = numpy.frombuffer(bytes.fromhex(data), dtype=kind)
    return made[0] if shape is None else made.reshape(shape).copy()
