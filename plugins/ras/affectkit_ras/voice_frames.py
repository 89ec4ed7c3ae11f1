"""WavLM's frames of sounds, each at its own length."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from affectkit import pretrained
from affectkit.api import CheckpointError
from affectkit.fingerprints import fingerprint

TINY = 32  # numbers of a frame of the random one
HEADS = (r"^classifier\.", r"^layer_weights$", r"^masked_spec_embed$")  # of the task that a checkpoint was fine-tuned for
FOLDED = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}  # names before and since torch 2


class VoiceReader:
    """WavLM (Chen et al., arXiv 2110.13900) on waveforms without normalisation, as Team RAS gave them.

    Its first layer normalises each channel over the whole time of what it is given, so sounds that are padded to one length say something else than alone, with
    an attention mask or without. Here sounds of one length are heard together, and no others.

    Args:
        folder: config and weights, as transformers writes them.
        owner: id of the component, for messages.
        device: where it runs.

    Attributes:
        size: numbers of a frame.
        fingerprint: which parameters it has.
    """

    def __init__(self, folder: Path, owner: str, device: torch.device) -> None:
        from transformers import WavLMModel

        self._owner = owner
        self._model = pretrained.load(WavLMModel, folder, owner, unused=HEADS)
        self.size = int(self._model.config.hidden_size)
        self.fingerprint = fingerprint(self._model)
        self._model.to(device)

    def __call__(self, sounds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Frames of sounds.

        Args:
            sounds: (B, N) float32 in [-1, 1] at 16 kHz.
            mask: (B, N) bool, true where a sample is real, what is padded last.

        Returns:
            (B, T, D) float32, 50 frames per second, zeros where padded, and which are real, (B, T) bool.
        """
        lengths = mask.sum(1)
        read: list[tuple[Tensor, Tensor]] = []
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            read.append((rows, self._model(sounds[rows, :length]).last_hidden_state.float()))
        most = max(frames.shape[1] for _, frames in read)
        out = sounds.new_zeros(len(sounds), most, self.size)
        real = torch.zeros(len(sounds), most, dtype=torch.bool, device=sounds.device)
        for rows, frames in read:
            out[rows, : frames.shape[1]] = frames
            real[rows, : frames.shape[1]] = True
        return out, real

    def tune(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        """Takes the parameters that a head was trained together with, all of them or some.

        Args:
            tensors: by the names of WavLMModel.
            path: where they come from, for messages.

        Raises:
            CheckpointError: where some are of another model.
        """
        named = {re.sub("weight_[gv]$", lambda found: FOLDED[found[0]], name): value for name, value in tensors.items()}
        wanted = self._model.state_dict()
        left = [name for name in named if name not in wanted and not any(re.search(pattern, name) for pattern in HEADS)]
        other = [name for name, value in named.items() if name in wanted and value.shape != wanted[name].shape]
        if left or other:
            raise CheckpointError(
                f"{self._owner}: {path} holds an encoder of another shape than the backbone's: {', '.join([*left, *other][:5])}"
            )
        self._model.load_state_dict(named, strict=False)


def write_tiny(folder: Path) -> Path:
    """A narrow WavLM of two layers with the head of a diarisation model, in the real format."""
    from transformers import WavLMConfig, WavLMForAudioFrameClassification

    from affectkit import weight_files
    from affectkit_ras.tiny_text import marked, stirred

    given = WavLMConfig(
        hidden_size=TINY,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * TINY,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    network = weight_files.random_network(lambda: stirred(WavLMForAudioFrameClassification(given)))
    with pretrained.quiet():
        network.save_pretrained(folder)
    return marked(folder)
