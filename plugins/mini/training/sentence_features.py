"""Frozen features of the sentence model for a list of texts, in memory and in a cache file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from affectkit_mini.sentences import STATE_WIDTH, load_sentence_model, load_tokenizer
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Token states (total tokens, 768) float16 one text after the other, ``starts`` (N + 1,), embeddings (N, 384) float32."""

    states: Tensor
    starts: Tensor
    embeddings: Tensor

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Padded states (B, T, 768) float32, mask (B, T) and embeddings (B, 384) of some texts."""
        lengths = (self.starts[rows + 1] - self.starts[rows]).tolist()
        states = torch.zeros(len(rows), max(lengths), STATE_WIDTH)
        mask = torch.zeros(len(rows), max(lengths), dtype=torch.bool)
        for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            states[place, :length] = self.states[self.starts[row] : self.starts[row] + length].float()
            mask[place, :length] = True
        return states, mask, self.embeddings[rows]

    def means(self) -> Tensor:
        """Mean token state of every text, (N, 768) float32."""
        ends = zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)
        return torch.stack([self.states[start:end].float().mean(0) for start, end in ends])

    def batches(self, rows: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
        """Shuffled batches of texts of like length: less padding, so less to compute."""
        lengths = (self.starts[1:] - self.starts[:-1]).numpy()
        shuffled = random.permutation(rows)
        parts = []
        for pool in np.array_split(shuffled, max(len(rows) // (size * 20), 1)):
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            parts += [pool[start : start + size] for start in range(0, len(pool) - size + 1, size)]
        return [parts[index] for index in random.permutation(len(parts))]


@torch.inference_mode()
def sentence_features(texts: list[str], cache: Path | None = None, batch_tokens: int = 8192) -> Features:
    """Read texts once; with ``cache`` (a folder) the result is kept under the hash of the texts."""
    key = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    path = cache / f"sentences_{key}.pt" if cache else None
    if path and path.exists():
        return Features(**torch.load(path, weights_only=True))
    model, tokenizer = load_sentence_model(torch.device("cpu")), load_tokenizer()
    ids = [encoded.ids for encoded in tokenizer.encode_batch(texts)]
    lengths = torch.tensor([len(row) for row in ids])
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    states = torch.empty(int(starts[-1]), STATE_WIDTH, dtype=torch.float16)
    embeddings = torch.empty(len(ids), 384)
    order = lengths.argsort().tolist()
    while order:
        count = max(1, batch_tokens // int(lengths[order[min(len(order) - 1, 255)]]))
        rows, order = order[:count], order[count:]
        width = int(lengths[rows].max())
        padded = torch.tensor([ids[row] + [0] * (width - len(ids[row])) for row in rows])
        mask = torch.arange(width) < lengths[rows][:, None]
        found, means = model(padded, mask)
        for place, row in enumerate(rows):
            states[starts[row] : starts[row + 1]] = found[place, : lengths[row]].half()
        embeddings[rows] = means
        if len(order) % 4000 < count:
            print(f"sentences: {len(order)} left", flush=True)
    features = {"states": states, "starts": starts, "embeddings": embeddings}
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(features, path)
    return Features(**features)
