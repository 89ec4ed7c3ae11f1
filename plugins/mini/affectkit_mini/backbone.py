"""The network of single faces, shared by the components that use it: every crop is read once, however many windows and components ask."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from affectkit.remembering import Remembered
from affectkit_mini.networks import FaceNet
from affectkit_mini.records import load_network

KEPT = 4096  # crops whose reading is kept; about four megabytes


class Backbone:
    """A frozen ``FaceNet`` and what it said of the last crops.

    Windows overlap, and mini/face_static and mini/face_dynamic look at the same crops. What was said of a crop is found again by
    its pixels, so that nobody needs to know who asked before; no answer depends on it.

    Args:
        net: the network, in evaluation mode on its device.
        settings: those of its file.
    """

    def __init__(self, net: FaceNet, settings: Mapping[str, Any]) -> None:
        self.net = net
        self.settings = settings
        self._said: Remembered[tuple[bytes, bool], tuple[Tensor, Tensor]] = Remembered(KEPT)

    def forget(self) -> None:
        """Nothing is kept from here on, as before the first crop."""
        self._said.forget()

    def read(self, faces: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What the network says of the crops of windows.

        Args:
            faces: (B, T, 48, 48) float in [0, 1].
            mask: (B, T) bool, True where there is a crop; what is padded comes last.

        Returns:
            Logits (B, T, C) and embeddings (B, T, 128), float32, zeros where padded.
        """
        rows = faces[mask]
        half = torch.is_autocast_enabled(faces.device.type)  # what half precision says is not kept for single precision
        keys = [(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), half) for row in rows.cpu().numpy()]
        said = self._said(keys, lambda places: list(zip(*self.net.read(rows[places]), strict=True)))
        return _spread(torch.stack([row for row, _ in said]), mask), _spread(torch.stack([row for _, row in said]), mask)


def _spread(rows: Tensor, mask: Tensor) -> Tensor:
    """Rows (N, D) at the N true places of ``mask`` (B, T), zeros elsewhere: (B, T, D)."""
    spread = rows.new_zeros(*mask.shape, rows.shape[1])
    spread[mask] = rows
    return spread


@lru_cache(maxsize=2)
def _loaded(path: Path, digest: str, device: torch.device) -> Backbone:
    net = FaceNet()
    settings = load_network(net, path)
    net.fold()
    net.to(device).to(memory_format=torch.channels_last)  # a quarter faster on processors
    return Backbone(net, settings)


def load_backbone(path: Path, device: torch.device) -> Backbone:
    """The backbone of a file of weights, one per file and device for all components that use it; what it said before is forgotten.

    Raises:
        CheckpointError: where the file does not fit.
    """
    from affectkit.checkpoints import sha256

    backbone = _loaded(path, sha256(path), device)
    backbone.forget()
    return backbone
