"""Text encoders of three libraries behind one call, and the head over them. Nothing but torch code: import it late.

B texts, T tokens, D size of a feature, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from affectkit import pretrained
from affectkit.api import CheckpointError

OUTSIDE_TEXT = (r"^vision_model\.", r"^visual_projection\.", r"^logit_scale$")  # of CLIP, whose text tower alone is read
POOLERS = (r"(^|\.)pooler\.",)  # of BERT and RoBERTa: over the first token, and of no use to what is read here


class Read(NamedTuple):
    """What an encoder makes of B texts.

    Attributes:
        feature: (B, D) what a head reads.
        embedding: (B, E) what the component gives out.
        logits: (B, C) of the encoder's own head, ``None`` where it has none.
    """

    feature: Tensor
    embedding: Tensor
    logits: Tensor | None = None


class Encoder(nn.Module):
    """A text encoder with its tokenizer.

    Attributes:
        model: of its library.
        tokens: gives ``.encode(text).ids``, cut at the limit and without padding; may be used by several threads.
        limit: tokens of a text at most, special ones included.
        width: D.
        labels: of its own head by column, empty where it has none.
    """

    model: Any
    tokens: Any
    limit: int
    width: int
    labels: tuple[str, ...] = ()

    def forward(self, ids: Tensor, mask: Tensor) -> Read:
        """Token ids (B, T) int64 and which of them are real (B, T) bool, to what they say."""
        raise NotImplementedError

    def layers(self) -> nn.ModuleList:
        """Its transformer blocks, in order."""
        return max((part for part in self.modules() if isinstance(part, nn.ModuleList)), key=len)

    def _read_with(self, tokenizer: Any, limit: int) -> None:
        self.limit = limit
        self.padding = int(tokenizer.pad_token_id or 0)
        self.tokens = tokenizer.backend_tokenizer
        self.tokens.enable_truncation(limit)
        self.tokens.no_padding()

    def _padded(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The ids with the tokenizer's own padding in place of the zeros of a batch: models such as RoBERTa count their positions by it."""
        return ids.masked_fill(~mask, self.padding)


class SequenceClassifier(Encoder):
    """A sequence classifier of transformers, such as DistilRoBERTa: the last hidden state of the first token, and its own head.

    Args:
        folder: config, weights and tokenizer.
        limit: tokens of a text at most.
        owner: id of the component, for messages.
    """

    def __init__(self, folder: Path, limit: int, owner: str) -> None:
        from transformers import AutoModelForSequenceClassification

        super().__init__()
        self.model = pretrained.load(AutoModelForSequenceClassification, folder, owner, unused=POOLERS)
        found = self.model.config
        # RoBERTa counts positions from the one after its padding.
        most = getattr(found, "max_position_embeddings", limit)
        most -= 1 + (found.pad_token_id or 0) if "roberta" in found.model_type else 0
        self._read_with(pretrained.tokenizer(folder, owner), min(limit, most))
        self.width = int(found.hidden_size)
        self.labels = tuple(str(found.id2label[column]) for column in range(found.num_labels))

    def forward(self, ids: Tensor, mask: Tensor) -> Read:
        """(B, T) and (B, T) to a feature and an embedding (B, D), which are the same, and logits (B, C)."""
        said = self.model(self._padded(ids, mask), attention_mask=mask.long(), output_hidden_states=True)
        first = said.hidden_states[-1][:, 0]
        return Read(first, first, said.logits)


class ClipText(Encoder):
    """The text tower of CLIP (Radford et al. 2021): its projected text embedding for a head, the mean of its last hidden states for the embedding.

    Args:
        folder: config, weights and tokenizer of the whole of CLIP.
        limit: tokens of a text at most; CLIP itself reads 77.
        owner: id of the component, for messages.
    """

    def __init__(self, folder: Path, limit: int, owner: str) -> None:
        from transformers import CLIPTextModelWithProjection

        super().__init__()
        self.model = pretrained.load(CLIPTextModelWithProjection, folder, owner, unused=OUTSIDE_TEXT)
        self._read_with(pretrained.tokenizer(folder, owner), min(limit, self.model.config.max_position_embeddings))
        self.width = int(self.model.config.projection_dim)

    def forward(self, ids: Tensor, mask: Tensor) -> Read:
        """(B, T) and (B, T) to a feature (B, D) and an embedding (B, E)."""
        said = self.model(self._padded(ids, mask), attention_mask=mask.long())
        real = mask[..., None].to(said.last_hidden_state.dtype)
        return Read(said.text_embeds, (said.last_hidden_state * real).sum(1) / real.sum(1))


class SentenceModel(Encoder):
    """A model of sentence-transformers (Reimers and Gurevych 2019): its sentence embedding for both.

    Args:
        folder: as ``SentenceTransformer.save`` writes it.
        limit: tokens of a text at most.
        owner: id of the component, for messages.
    """

    def __init__(self, folder: Path, limit: int, owner: str) -> None:
        from sentence_transformers import SentenceTransformer

        super().__init__()
        if not (folder / "modules.json").is_file():
            raise CheckpointError(f"{owner}: {folder} is not a folder of sentence-transformers: it has no modules.json")
        pretrained.check_vocabulary(folder, owner)
        with pretrained.quiet(), pretrained.told(folder, owner, "sentence-transformers"):
            self.model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, trust_remote_code=False)
        self._check(folder, owner)
        most = self.model.max_seq_length
        self._read_with(self.model.tokenizer, min(limit, most) if most else limit)
        self.width = int(self.model.get_embedding_dimension())
        self.model.float().eval().requires_grad_(False)

    def forward(self, ids: Tensor, mask: Tensor) -> Read:
        """(B, T) and (B, T) to a feature and an embedding (B, D), which are the same."""
        said = self.model({"input_ids": self._padded(ids, mask), "attention_mask": mask.long()})
        return Read(said["sentence_embedding"], said["sentence_embedding"])

    def _check(self, folder: Path, owner: str) -> None:
        """Refuses a file of the transformer that lacks tensors, which the library would fill with random numbers.

        Raises:
            CheckpointError: where tensors are missing or left over.
        """
        from affectkit.weight_files import load_tensors

        transformer = self.model[0]
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        inside = folder / str(modules[0].get("path", ""))
        files = [file for name in ("*.safetensors", "pytorch_model*.bin") for file in sorted(inside.glob(name))]
        if not files or not hasattr(transformer, "auto_model") or (inside / f"{files[0].name}.index.json").is_file():
            return  # a module of another kind, or in pieces
        kept = set(load_tensors(files[0]))
        network = transformer.auto_model
        wanted = set(network.state_dict())
        prefix = f"{network.base_model_prefix}."
        kept = {name.removeprefix(prefix) if name not in wanted else name for name in kept}
        missing = [name for name in wanted - kept if "pooler." not in name and not name.endswith("position_ids")]
        left = [name for name in kept - wanted if "pooler." not in name and not name.endswith("position_ids")]
        pretrained.refuse(folder, owner, type(network).__name__, missing, left)


ENCODERS: Mapping[str, type[Encoder]] = {"distilroberta": SequenceClassifier, "clip": ClipText, "sentence": SentenceModel}
"""What reads the checkpoint of each tag."""


class Head(nn.Module):
    """Logits of a feature: one layer, or two with GELU and dropout between them.

    Args:
        width: D.
        hidden: width between the layers, 0 for one layer.
        classes: C.
        dropout: share of the numbers before the last layer that are left out in training.
    """

    def __init__(self, width: int, hidden: int, classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.first: nn.Module = nn.Sequential(nn.Linear(width, hidden), nn.GELU()) if hidden else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(hidden or width, classes)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, D) to (B, C)."""
        found: Tensor = self.last(self.dropout(self.first(feature)))
        return found
