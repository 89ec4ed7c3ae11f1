"""The weights that AVCER published (Ryumina et al., 6th ABAW, arXiv 2403.12687; ``src/get_weights_matrices.py``), by name.

Three tables of weights per source and class: a static face, a dynamic face and, in two of them, sound. Each column was drawn from a Dirichlet
distribution, so it sums to 1. One does not: in the table ``avcer7`` the static face has for disgust the digits of its weight for anger,
which is an error of copying. Here it has what the two other sources leave of 1, and ``parity`` keeps what was printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from affectkit.errors import UsageError, did_you_mean
from affectkit.labels import BASIC7, LabelSet

Level = Literal["single", "double"]

ROLES = ("static_face", "dynamic_face", "audio")
"""The sources of the tables, in order; ``avcer_video`` has the first two."""


@dataclass(frozen=True)
class Published:
    """One table.

    Attributes:
        about: which it is.
        single: by source the weights of neutral, anger, disgust, fear, happiness, sadness and surprise, as printed.
        double: a further weight per source.
        copied: source and label whose weight is a copy of another's, where there is one.
    """

    about: str
    single: tuple[tuple[float, ...], ...]
    double: tuple[float, ...]
    copied: tuple[str, str] | None = None


TABLES: Mapping[str, Published] = {
    "avcer8": Published(
        "face and sound, with the model of sound that knows eight classes; the one that AVCER runs",
        (
            (0.89900098, 0.10362151, 0.08577635, 0.04428126, 0.89679865, 0.02656456, 0.63040305),
            (0.01223291, 0.21364307, 0.66688002, 0.93791526, 0.03989640, 0.48670648, 0.22089692),
            (0.08876611, 0.68273542, 0.24734363, 0.01780348, 0.06330495, 0.48672896, 0.14870002),
        ),
        (0.16, 0.36, 0.01),
    ),
    "avcer7": Published(
        "face and sound, with the model of sound that knows seven classes",
        (
            (0.85806901, 0.2579578, 0.2579578, 0.72010502, 0.62082661, 0.06281922, 0.70875895),
            (0.11491265, 0.46222294, 0.62411413, 0.16716238, 0.31962795, 0.16603196, 0.24433032),
            (0.02701833, 0.27981925, 0.17148297, 0.1127326, 0.05954545, 0.77114883, 0.04691073),
        ),
        (0.06, 0.21, 0.01),
        copied=("static_face", "disgust"),
    ),
    "avcer_video": Published(
        "the face alone",
        (
            (0.42633145, 0.57803352, 0.01878466, 0.86451425, 0.16464752, 0.03786653, 0.81048546),
            (0.57366855, 0.42196648, 0.98121534, 0.13548575, 0.83535248, 0.96213347, 0.18951454),
        ),
        (0.365, 0.23),
    ),
}
"""The tables by name."""


def table(name: str, labels: LabelSet = BASIC7, level: Level = "single", parity: bool = False) -> np.ndarray:
    """The weights of a table, (M, C) float64; 0 for labels that AVCER does not have.

    Args:
        name: ``"avcer8"``, ``"avcer7"`` or ``"avcer_video"``.
        labels: the labels of the columns.
        level: ``"single"`` weighs by source and class, ``"double"`` by source as well, and then columns do not sum to 1.
        parity: keeps the one weight that was copied wrongly.

    Raises:
        UsageError: for another name or level.

    >>> table("avcer7").sum(axis=0).round(4).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    >>> float(table("avcer7", parity=True)[:, BASIC7.index("disgust")].sum().round(4))
    1.0536
    """
    if name not in TABLES:
        raise UsageError(f"AVCER published no table {name!r}. {did_you_mean(name, TABLES)}")
    if level not in ("single", "double"):
        raise UsageError(f"a table of AVCER has the levels single and double, not {level!r}")
    found = TABLES[name]
    printed = np.array(found.single)
    if found.copied is not None and not parity:
        row, column = ROLES.index(found.copied[0]), BASIC7.index(found.copied[1])
        printed[row, column] = 1 - np.delete(printed[:, column], row).sum()
    if level == "double":
        printed = printed * np.array(found.double)[:, None]
    out = np.zeros((len(printed), len(labels)))
    for column, label in enumerate(BASIC7.labels):
        out[:, labels.index(label)] = printed[:, column]
    return out
