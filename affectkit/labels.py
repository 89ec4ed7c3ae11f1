"""Label sets, their aliases, and projection from one set onto another by name.

Every model here has its own order of emotions, so nothing in affectkit ever indexes a bare column: values travel with
their :class:`LabelSet`, and :func:`project` moves them to another set by name.

Orders: ABAW basic and compound sets as in the ABAW competitions; DFEW, FERV39k, MAFW and AffectNet in the order of the
S4D annotation files; FERV39k and MAFW also in the order of DFER-CLIP's prompts, MAFW also in its official order.
EmoAffectNet's released weights have the order of ``AFFECTNET7``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from affectkit.errors import ConfigError, LabelError

Kind = Literal["categorical", "multilabel", "continuous"]
Outside = Literal["other", "drop", "error"]

KINDS: tuple[Kind, ...] = ("categorical", "multilabel", "continuous")
OUTSIDE: tuple[Outside, ...] = ("other", "drop", "error")


def _snake_case(text: str) -> str:
    return "_".join(text.strip().lower().replace("-", " ").replace("_", " ").split())


def _is_snake_case(text: str) -> bool:
    return bool(text) and text == _snake_case(text)


@dataclass(frozen=True)
class LabelSet:
    """An ordered set of labels: what the columns of a model's output mean.

    Args:
        name: lower-case identifier of the set, for instance ``"basic8"``.
        labels: the labels in column order, lower snake case.
        kind: ``"categorical"`` (a row is a distribution and sums to 1), ``"multilabel"`` (each column is a probability
            of its own) or ``"continuous"`` (each column is a quantity in ``[low, high]``).
        low: least value of a column.
        high: greatest value of a column.
        pairs: for compound expressions, the two basic emotions that each class is made of.

    Raises:
        LabelError: for an empty set, doubled labels, labels that are not lower snake case, an unknown kind or an empty range.

    >>> LabelSet("polarity", ("negative", "positive")).index("positive")
    1
    """

    name: str
    labels: tuple[str, ...]
    kind: Kind = "categorical"
    low: float = 0.0
    high: float = 1.0
    pairs: tuple[tuple[str, str], ...] | None = field(default=None)

    def __post_init__(self) -> None:
        if isinstance(self.labels, str):
            raise LabelError(f"label set {self.name!r} needs a tuple of labels, found the text {self.labels!r}; write ({self.labels!r},)")
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.pairs is not None:
            object.__setattr__(self, "pairs", tuple(tuple(pair) for pair in self.pairs))  # lists would make the set unhashable
        if not self.labels:
            raise LabelError(f"label set {self.name!r} has no labels; give at least one")
        doubled = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if doubled:
            raise LabelError(f"label set {self.name!r} names {', '.join(doubled)} twice: {_show(self.labels)}")
        bad = [label for label in (self.name, *self.labels) if not _is_snake_case(label)]
        if bad:
            raise LabelError(f"label set {self.name!r}: {_show(bad)} must be lower snake case, for instance {_snake_case(bad[0])!r}")
        if self.kind not in KINDS:
            raise LabelError(f"label set {self.name!r} has kind {self.kind!r}; kinds are {', '.join(KINDS)}")
        if not self.low < self.high:
            raise LabelError(f"label set {self.name!r} has the empty range [{self.low}, {self.high}]")
        if self.kind != "continuous" and (self.low, self.high) != (0.0, 1.0):
            raise LabelError(
                f"label set {self.name!r} is {self.kind}, so its values are probabilities in [0, 1], not [{self.low}, {self.high}]"
            )
        if self.pairs is not None and len(self.pairs) != len(self.labels):
            raise LabelError(f"label set {self.name!r} has {len(self.labels)} labels and {len(self.pairs)} pairs; give one pair per label")

    def __len__(self) -> int:
        return len(self.labels)

    def index(self, label: str) -> int:
        """The column of ``label``, by its own name or an alias of it.

        Raises:
            LabelError: if the set has no such label; the message lists what it has.
        """
        column = _columns(self).get(canonical(label))
        if column is None:
            raise LabelError(f"{label!r} is not in label set {self.name!r}: {_show(self.labels)}")
        return column


# Words for the same state, as data sets and models write them. Left: lower snake case alias; right: the name used here.
ALIASES = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "calm": "neutral",
    "neutrality": "neutral",
    "others": "other",
    "contemptuous": "contempt",
    "anxious": "anxiety",
    "disappointed": "disappointment",
    "helpless": "helplessness",
}

BASIC8 = LabelSet("basic8", ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other"))
"""The eight classes of the ABAW expression track, in its order."""

BASIC7 = LabelSet("basic7", BASIC8.labels[:7])
"""The six basic emotions and neutral, in ABAW order: what most models can say."""

COMPOUND7 = LabelSet(
    "compound7",
    (
        "fearfully_surprised",
        "happily_surprised",
        "sadly_surprised",
        "disgustedly_surprised",
        "angrily_surprised",
        "sadly_fearful",
        "sadly_angry",
    ),
    pairs=(
        ("fear", "surprise"),
        ("happiness", "surprise"),
        ("sadness", "surprise"),
        ("disgust", "surprise"),
        ("anger", "surprise"),
        ("sadness", "fear"),
        ("sadness", "anger"),
    ),
)
"""The seven classes of the ABAW compound expression track (C-EXPR-DB), in its order."""

VA = LabelSet("va", ("valence", "arousal"), kind="continuous", low=-1.0, high=1.0)
"""Valence and arousal in [-1, 1], in ABAW order."""

AU12 = LabelSet("au12", tuple(f"au{n}" for n in (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)), kind="multilabel")
"""The twelve action units of the ABAW action unit track, each a probability in [0, 1]."""

DFEW7 = LabelSet("dfew7", ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear"))
"""DFEW, in the order of its annotation files."""

FERV39K7 = LabelSet("ferv39k7", ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"))
"""FERV39k, alphabetical, as S4D and IFDD number it."""

FERV39K7_DFER_CLIP = LabelSet("ferv39k7_dfer_clip", DFEW7.labels)
"""FERV39k in the order of DFER-CLIP's prompts, which is that of DFEW."""

MAFW11 = LabelSet(
    "mafw11",
    ("anger", "anxiety", "contempt", "disappointment", "disgust", "fear", "happiness", "helplessness", "neutral", "sadness", "surprise"),
)
"""MAFW, alphabetical, as S4D numbers it."""

MAFW11_OFFICIAL = LabelSet(
    "mafw11_official",
    ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt", "anxiety", "helplessness", "disappointment"),
)
"""MAFW in its official order, as IFDD numbers it."""

MAFW11_DFER_CLIP = LabelSet(
    "mafw11_dfer_clip",
    ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear", "contempt", "anxiety", "helplessness", "disappointment"),
)
"""MAFW in the order of DFER-CLIP's prompts."""

AFFECTNET7 = LabelSet("affectnet7", ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"))
"""AffectNet without contempt; also the order of EmoAffectNet's released weights."""

AFFECTNET8 = LabelSet("affectnet8", (*AFFECTNET7.labels, "contempt"))
"""AffectNet with contempt, in the order of its annotation files."""

KNOWN = {
    s.name: s
    for s in (
        *(BASIC8, BASIC7, COMPOUND7, VA, AU12),
        *(DFEW7, FERV39K7, FERV39K7_DFER_CLIP, MAFW11, MAFW11_OFFICIAL, MAFW11_DFER_CLIP, AFFECTNET7, AFFECTNET8),
    )
}
"""Every label set that ships with affectkit, by name."""


def canonical(label: str) -> str:
    """The name that affectkit uses for a label: lower snake case, with aliases resolved.

    >>> canonical("Angry"), canonical("joy"), canonical("Fearfully Surprised")
    ('anger', 'happiness', 'fearfully_surprised')
    """
    name = _snake_case(label)
    return ALIASES.get(name, name)


def of_texts(texts: Sequence[str] | Mapping[str, str | Sequence[str]]) -> LabelSet:
    """The label set of texts that somebody asks a modality to match.

    The seven basic or compound names are that set. Others are quantities in [0, 1]: what they share of a similarity says nothing about the
    basic emotions, so nothing projects it onto them. Texts that are given by label stand for classes: they are projected as these labels.

    Args:
        texts: the texts, in any spelling; or by label the text or texts that stand for it.

    Raises:
        ConfigError: for fewer than two texts, one without letters, two that become the same label, or a text of two labels.

    >>> of_texts(["bored", "Much relieved"]).labels
    ('bored', 'much_relieved')
    >>> of_texts({"happiness": "glad", "sadness": "in tears"}).kind
    'categorical'
    """
    classes = isinstance(texts, Mapping)
    if isinstance(texts, Mapping):
        _check_texts(texts)
        texts = list(texts)
    names = tuple(_snake_case(text) for text in texts)
    if len(names) < 2:
        raise ConfigError(f"labels must be at least two texts, because each is compared with the others; found {list(texts)}")
    if empty := [text for text in texts if not any(letter.isalnum() for letter in text)]:
        raise ConfigError(f"labels has a text without letters, {empty[0]!r}, in {list(texts)}; leave it out")
    for place, name in enumerate(names):
        if name in names[:place]:
            first = texts[names.index(name)]
            raise ConfigError(f"labels has {first!r} and {texts[place]!r}, which are both the label {name!r}; leave one of them out")
    known = [labels for labels in (BASIC7, COMPOUND7) if names == labels.labels]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    if known:
        return known[0]
    return LabelSet(f"classes_{digest}", names) if classes else LabelSet(f"labels_{digest}", names, kind="continuous")


def _check_texts(texts: Mapping[str, str | Sequence[str]]) -> None:
    """Each label has texts with letters, which no other label has.

    Raises:
        ConfigError: otherwise.
    """
    owners: dict[tuple[str, ...], str] = {}
    for label, given in texts.items():
        words = (given,) if isinstance(given, str) else tuple(given)
        if not words or not all(any(letter.isalnum() for letter in text) for text in words):
            raise ConfigError(f"labels: {label} needs a text with letters, found {given!r}")
        if (other := owners.setdefault(words, label)) != label:
            raise ConfigError(f"labels: {other} and {label} have the same text, {words[0]!r}; nothing would tell them apart")


@dataclass(frozen=True)
class Projection:
    """How the columns of one label set become the columns of another.

    Attributes:
        source: the set that is read.
        target: the set that is written.
        matrix: (source, target) float64 of zeros and ones; ``values @ matrix`` is the projection.
        support: (target,) bool; a class that the source cannot say is not supported, which is not a probability of 0.
        dropped: labels of the source that have no place in the target and are left out.
    """

    source: LabelSet
    target: LabelSet
    matrix: np.ndarray
    support: np.ndarray
    dropped: tuple[str, ...]


def projection(source: LabelSet, target: LabelSet, outside: Outside = "other") -> Projection:
    """Maps columns by name, with aliases merged (``calm`` into ``neutral``).

    Args:
        source: label set of the values.
        target: label set that is wanted.
        outside: what becomes of a source label that the target does not have: ``"other"`` adds it to the target's
            ``other`` (an error where the target has none), ``"drop"`` leaves it out, ``"error"`` refuses.

    Returns:
        The ``matrix`` of zeros and ones, (source, target) float64, with ``values @ matrix`` as the projection; which classes the
        source can say at all, ``support`` (target,) bool; and the labels that were ``dropped``.

    Raises:
        LabelError: where the kinds differ, no label is shared, or ``outside`` does not allow what is left over; the message shows both lists.
    """
    if outside not in OUTSIDE:
        raise LabelError(f"unknown policy outside={outside!r}; policies are {', '.join(OUTSIDE)}")
    both = f"{source.name}: {_show(source.labels)}; {target.name}: {_show(target.labels)}"
    if source.kind != target.kind:
        raise LabelError(f"{source.name!r} is {source.kind} and {target.name!r} is {target.kind}: one cannot be read as the other ({both})")
    columns = _columns(target)
    shared = [label for label in source.labels if canonical(label) in columns]
    left = tuple(label for label in source.labels if canonical(label) not in columns)
    if not shared:
        raise LabelError(f"{source.name!r} and {target.name!r} share no label ({both})")
    if left and outside == "error":
        raise LabelError(
            f"{source.name!r} has labels that {target.name!r} does not: {_show(left)}; choose outside='drop' or 'other' ({both})"
        )
    if left and outside == "other" and "other" not in columns:
        raise LabelError(f"{target.name!r} has no class 'other' for {_show(left)}; choose outside='drop' ({both})")
    matrix = np.zeros((len(source), len(target)))
    for row, label in enumerate(source.labels):
        column = columns.get(canonical(label))
        if column is None and outside == "other":
            column = columns["other"]
        if column is not None:
            matrix[row, column] = 1.0
    return Projection(source, target, matrix, np.asarray(matrix.any(axis=0)), left if outside == "drop" else ())


def projects(source: LabelSet, target: LabelSet) -> bool:
    """Whether values of ``source`` can be read as values of ``target``: same kind, and at least one label shared."""
    return source.kind == target.kind and not set(_columns(source)).isdisjoint(_columns(target))


def project(values: np.ndarray, source: LabelSet, target: LabelSet, outside: Outside = "other") -> tuple[np.ndarray, np.ndarray]:
    """Values of one label set as values of another, by name.

    Categorical rows are renormalised after a drop, so that they still sum to 1; a row with nothing left is NaN.
    Multilabel and continuous values that meet in one column are averaged; a continuous column is moved from the range of the
    source to that of the target. Columns without support are NaN.

    Args:
        values: (N, source) float array; rows without evidence may be NaN, and so may single classes that cannot be said.
        source: label set of the values.
        target: label set that is wanted.
        outside: as in :func:`projection`.

    Returns:
        Values (N, target) float64, and the support mask (target,) bool.

    Raises:
        LabelError: as in :func:`projection`, or where the values do not have one column per source label.

    >>> values, support = project(np.array([[0.2, 0.5, 0.3]]), LabelSet("three", ("calm", "angry", "joy")), BASIC8)
    >>> values[0, :2], support.sum()
    (array([0.2, 0.5]), np.int64(3))
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(source):
        raise LabelError(
            f"expected values of shape (N, {len(source)}) for {source.name!r}, found {values.shape} "
            f"({source.name}: {_show(source.labels)}; {target.name}: {_show(target.labels)})"
        )
    mapping = projection(source, target, outside)
    if source.kind == "continuous":
        values = (values - source.low) / (source.high - source.low) * (target.high - target.low) + target.low
    out = np.zeros((len(values), len(target)))
    for row, column in zip(*np.nonzero(mapping.matrix), strict=True):  # no matrix product: a class that is NaN must not spoil the others
        out[:, column] += values[:, row]
    if source.kind == "categorical":
        total = np.nansum(out, axis=1, keepdims=True)
        if mapping.dropped:
            out = np.divide(out, total, out=np.full_like(out, np.nan), where=total > 0)
    else:
        out = out / np.maximum(mapping.matrix.sum(axis=0), 1.0)
    out[:, ~mapping.support] = np.nan
    return out, mapping.support


def _columns(labels: LabelSet) -> dict[str, int]:
    """Canonical name to column; the first of two columns that mean the same wins."""
    columns: dict[str, int] = {}
    for column, label in enumerate(labels.labels):
        columns.setdefault(canonical(label), column)
    return columns


def _show(labels: Sequence[str]) -> str:
    return "[" + ", ".join(labels) + "]"
