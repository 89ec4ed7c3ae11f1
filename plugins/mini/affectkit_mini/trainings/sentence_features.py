"""What the frozen sentence model says of texts, computed when it is first asked for and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from affectkit.files import replacing
from affectkit_mini.sentences import STATE_WIDTH, WIDTH, load_sentence_model, load_tokenizer

TOGETHER = 8  # texts that are read together: always the same ones, so that a text is read to the same numbers each time


class Sentences:
    """Token states and sentence embeddings of N texts.

    Args:
        texts: the texts.
        means: keep the mean token state of a text instead of all of them.
        folder: keeps the states of all tokens for another training, in a file named after the texts; ``None`` keeps them in memory.

    Attributes:
        lengths: (N,) int64 tokens per text.
    """

    def __init__(self, texts: Sequence[str], *, means: bool = False, folder: Path | None = None) -> None:
        self._ids = [found.ids for found in load_tokenizer().encode_batch(list(texts))]
        self.lengths = np.array([len(ids) for ids in self._ids])
        self._means = means
        rows = np.ones_like(self.lengths) if means else self.lengths
        self._ends = np.cumsum(rows)
        self._starts = self._ends - rows
        shape = (int(self._ends[-1]), STATE_WIDTH)
        if folder is None or means:
            self._states = np.full(shape, np.nan, np.float32 if means else np.float16)
        else:
            name = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
            self._states = _kept(folder / f"states_{name}.npy", shape)
        order = np.argsort(self.lengths, kind="stable")
        self._together = np.array_split(order, -(-len(order) // TOGETHER))
        self._place = np.empty(len(order), dtype=np.int64)
        for number, some in enumerate(self._together):
            self._place[some] = number
        known = np.logical_and.reduceat(~np.isnan(self._states).any(axis=1), self._starts)
        self._read_already = np.array([bool(known[some].all()) for some in self._together])

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """``states`` (B, T, 768), ``mask`` (B, T) and ``embedding`` (B, 384) of some texts; ``mean`` (B, 768) in place of states and mask for means."""
        for number in np.unique(self._place[rows]):
            if not self._read_already[number]:
                self._read(self._together[number])
                self._read_already[number] = True
        kept = [torch.tensor(self._states[self._starts[row] : self._ends[row]]).float() for row in rows]
        mean = torch.stack([states.mean(0) for states in kept])
        embedding = torch.nn.functional.normalize(mean[:, -WIDTH:], dim=1)  # the last layer's states come last
        if self._means:
            return {"mean": mean, "embedding": embedding}
        states = torch.nn.utils.rnn.pad_sequence(kept, batch_first=True)
        mask = torch.arange(states.shape[1]) < torch.from_numpy(self.lengths[rows])[:, None]
        return {"states": states, "mask": mask, "embedding": embedding}

    @torch.inference_mode()
    def _read(self, rows: np.ndarray) -> None:
        width = int(self.lengths[rows].max())
        ids = torch.tensor([self._ids[row] + [0] * (width - len(self._ids[row])) for row in rows])
        mask = torch.arange(width) < torch.from_numpy(self.lengths[rows])[:, None]
        states, _ = load_sentence_model(torch.device("cpu"))(ids, mask)
        for place, row in enumerate(rows.tolist()):
            found = states[place, : self.lengths[row]].half()
            self._states[self._starts[row] : self._ends[row]] = found.float().mean(0).numpy() if self._means else found.numpy()


def _kept(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Numbers (tokens, 768) float16 in a file that is written as they change, NaN where nothing was written yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            np.lib.format.open_memmap(temporary, "w+", np.float16, shape)[:] = np.nan
    found: np.ndarray = np.lib.format.open_memmap(path, "r+")
    return found
