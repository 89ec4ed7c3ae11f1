"""Soft labels."""

from __future__ import annotations

import numpy as np


def shares_of(values: np.ndarray) -> np.ndarray:
    """Rows (N, C) of numbers from 0 as shares, (N, C) float32 that sum to 1; all 0 where a row says nothing, NaN included.

    >>> shares_of(np.array([[1.0, 3.0], [0.0, np.nan]])).tolist()
    [[0.25, 0.75], [0.0, 0.0]]
    """
    known = np.nan_to_num(values)
    total = known.sum(axis=1, keepdims=True)
    return np.divide(known, total, out=np.zeros(known.shape), where=total > 0).astype(np.float32)
