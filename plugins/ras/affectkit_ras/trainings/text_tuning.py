"""The network of a training over a text encoder. Nothing but torch code: import it late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectkit_ras.text_network import Encoder, Head


class Reader(nn.Module):
    """A text encoder whose last layers learn, and a head; the head alone where none do.

    Args:
        encoder: gets gradients in its last layers.
        classes: C.
        hidden: width between the layers of the head, 0 for one layer.
        dropout: of the head.
        layers: of the encoder that learn, from the last.
    """

    def __init__(self, encoder: Encoder, classes: int, hidden: int, dropout: float, layers: int) -> None:
        super().__init__()
        self.head = Head(encoder.width, hidden, classes, dropout)
        self.encoder = encoder if layers else None
        for layer in list(encoder.layers())[len(encoder.layers()) - layers :]:
            layer.requires_grad_(True)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, C) of ``feature`` (B, D), or of ``ids`` and ``mask`` (B, T)."""
        feature = batch["feature"] if self.encoder is None else self.encoder(batch["ids"], batch["mask"]).feature
        found: Tensor = self.head(feature)
        return found


@torch.no_grad()
def features(encoder: Encoder, ids: Sequence[Tensor], together: int, device: torch.device) -> Tensor:
    """What a frozen encoder makes of texts, (N, D) float32 on the processor.

    Args:
        encoder: in evaluation mode; it stays on the device.
        ids: N texts as tokens.
        together: texts that are read at once, those of like length.
        device: where they are read.
    """
    encoder.to(device)
    out = torch.empty(len(ids), encoder.width)
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for begin in range(0, len(order), together):
        rows = order[begin : begin + together]
        batch = nn.utils.rnn.pad_sequence([ids[row] for row in rows], batch_first=True)
        mask = torch.arange(batch.shape[1]) < torch.tensor([len(ids[row]) for row in rows])[:, None]
        out[rows] = encoder(batch.to(device), mask.to(device)).feature.float().cpu()
    return out
