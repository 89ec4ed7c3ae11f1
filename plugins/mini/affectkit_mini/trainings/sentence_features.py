"""What the frozen sentence model says of texts, computed when it is first asked for and kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from affectkit_mini.sentences import STATE_WIDTH, load_sentence_model, load_tokenizer

TOGETHER = 8  # texts that are read together: always the same ones, so that a text is read to the same numbers each time


class Sentences:
    """Token states and sentence embeddings of N texts.

    Args:
        texts: the texts.
        means: keep the mean token state of a text instead of all of them.

    Attributes:
        lengths: (N,) int64 tokens per text.
    """

    def __init__(self, texts: Sequence[str], means: bool = False) -> None:
        self._ids = [found.ids for found in load_tokenizer().encode_batch(list(texts))]
        self.lengths = np.array([len(ids) for ids in self._ids])
        self._means = means
        order = np.argsort(self.lengths, kind="stable")
        self._chunks = [order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)]
        self._chunk_of = np.empty(len(order), dtype=np.int64)
        for number, rows in enumerate(self._chunks):
            self._chunk_of[rows] = number
        self._states: dict[int, Tensor] = {}
        self._embeddings: dict[int, Tensor] = {}

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """``states`` (B, T, 768), ``mask`` (B, T) and ``embedding`` (B, 384) of some texts; ``mean`` (B, 768) in place of states and mask for means."""
        for number in np.unique(self._chunk_of[rows]):
            if int(self._chunks[number][0]) not in self._states:
                self._read(self._chunks[number])
        embedding = torch.stack([self._embeddings[int(row)] for row in rows])
        kept = [self._states[int(row)] for row in rows]
        if self._means:
            return {"mean": torch.stack(kept), "embedding": embedding}
        states = torch.zeros(len(rows), max(map(len, kept)), STATE_WIDTH)
        mask = torch.zeros(states.shape[:2], dtype=torch.bool)
        for place, found in enumerate(kept):
            states[place, : len(found)] = found.float()
            mask[place, : len(found)] = True
        return {"states": states, "mask": mask, "embedding": embedding}

    @torch.inference_mode()
    def _read(self, rows: np.ndarray) -> None:
        width = int(self.lengths[rows].max())
        ids = torch.tensor([self._ids[row] + [0] * (width - len(self._ids[row])) for row in rows])
        mask = torch.arange(width) < torch.from_numpy(self.lengths[rows])[:, None]
        states, embeddings = load_sentence_model(torch.device("cpu"))(ids, mask)
        for place, row in enumerate(rows.tolist()):
            found = states[place, : self.lengths[row]].half()
            self._states[row] = found.float().mean(0) if self._means else found.clone()
            self._embeddings[row] = embeddings[place].clone()
