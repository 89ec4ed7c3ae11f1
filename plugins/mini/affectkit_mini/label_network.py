"""The two towers of mini/label_match: a face and a text as points of one space, the closer the more alike. B batch, K texts, D = 384."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from affectkit_mini.networks import FACE_EMBEDDING
from affectkit_mini.sentences import WIDTH, load_sentence_model, load_tokenizer

HIDDEN = 128
TOGETHER = 64  # sentences that are read together


class LabelTowers(nn.Module):
    """Projects the frozen reading of a face, and adjusts the frozen embedding of a text, so that their cosine says how well they match.

    A text stays its sentence embedding but for its centre and a small correction, so that texts that were never seen keep their neighbours.
    """

    def __init__(self, classes: int = 7, dropout: float = 0.3) -> None:
        super().__init__()
        self.classes = nn.Linear(classes, WIDTH)
        self.embedding = nn.Linear(FACE_EMBEDDING, WIDTH, bias=False)
        self.centre = nn.Parameter(torch.zeros(WIDTH))
        self.reduce = nn.Linear(WIDTH, HIDDEN)
        self.dropout = nn.Dropout(dropout)
        self.correct = nn.Linear(HIDDEN, WIDTH)
        self.scale = nn.Parameter(torch.tensor(2.0))
        nn.init.zeros_(self.embedding.weight)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    def faces(self, logits: Tensor, embeddings: Tensor) -> Tensor:
        """Logits (..., 7) and embeddings (..., 128) of ``FaceNet.read`` as unit vectors (..., 384)."""
        return functional.normalize(self.classes(logits.softmax(-1)) + self.embedding(functional.silu(embeddings)), dim=-1)

    def texts(self, embeddings: Tensor) -> Tensor:
        """Sentence embeddings (..., 384) as unit vectors (..., 384)."""
        centred = (embeddings - self.centre) * WIDTH**0.5  # unit length to unit variance
        return functional.normalize(centred + self.correct(self.dropout(functional.gelu(self.reduce(centred)))), dim=-1)

    def forward(self, logits: Tensor, embeddings: Tensor, texts: Tensor) -> Tensor:
        """Scaled cosines.

        Args:
            logits: (B, 7) float, of ``FaceNet.read``.
            embeddings: (B, 128) float, of the same.
            texts: (B, K, 384) float, the sentence embeddings of the texts that each row is matched with.

        Returns:
            (B, K) float.
        """
        return self.scale.exp() * torch.einsum("bd,bkd->bk", self.faces(logits, embeddings), self.texts(texts))


@torch.inference_mode()
def embed(texts: Sequence[str], prompts: Sequence[str], device: torch.device) -> Tensor:
    """Sentence embeddings of texts, each the mean over the prompts it is put into.

    Args:
        texts: K texts.
        prompts: each with ``{}`` where the text goes.
        device: where the sentence model is.

    Returns:
        (K, 384) float32, unit length.
    """
    model, tokenizer = load_sentence_model(device), load_tokenizer()
    said = [tokenizer.encode(prompt.replace("{}", text)).ids for text in texts for prompt in prompts]
    order = sorted(range(len(said)), key=lambda row: len(said[row]))
    found = torch.empty(len(said), WIDTH)
    for start in range(0, len(order), TOGETHER):
        rows = order[start : start + TOGETHER]
        ids = nn.utils.rnn.pad_sequence([torch.tensor(said[row]) for row in rows], batch_first=True).to(device)
        mask = torch.arange(ids.shape[1], device=device) < torch.tensor([len(said[row]) for row in rows], device=device)[:, None]
        found[rows] = model(ids, mask)[1].float().cpu()
    return functional.normalize(found.unflatten(0, (len(texts), len(prompts))).mean(1), dim=1).to(device)
