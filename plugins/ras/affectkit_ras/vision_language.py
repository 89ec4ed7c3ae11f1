"""Qwen2.5-VL on pictures of a window and a question. Nothing but torch code: import it late."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from affectkit import pretrained
from affectkit.api import CheckpointError

KIND = "qwen2_5_vl"  # what config.json calls such a model
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"  # in one file, or the names of several


class Shown(NamedTuple):
    """The pictures of a window.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB.
        rate: pictures per second.
    """

    frames: np.ndarray
    rate: float


class VisionLanguage:
    """Qwen2.5-VL (Bai et al. 2025, arXiv 2502.13923), which answers greedily.

    The pictures of a window are a video to it, whose frames say how far apart they are. Rows of a batch are padded on the left.

    Args:
        folder: config, weights, tokenizer and processor, as ``save_pretrained`` writes them.
        owner: id of the component, for messages.
        processor: of the folder, as :func:`checked` gives it.
        device: where it runs.
        dtype: precision of its parameters.

    Raises:
        CheckpointError: where the folder holds something else, or is damaged.
    """

    def __init__(self, folder: Path, owner: str, processor: Any, device: torch.device, dtype: torch.dtype) -> None:
        from transformers import GenerationConfig, Qwen2_5_VLForConditionalGeneration

        self._processor = processor
        self._model = pretrained.load(Qwen2_5_VLForConditionalGeneration, folder, owner, dtype=dtype).to(device)
        tokenizer, told = self._processor.tokenizer, self._model.generation_config
        tokenizer.padding_side = "left"
        if hasattr(self._processor.video_processor, "cap_pixels_per_frame"):
            self._processor.video_processor.cap_pixels_per_frame = False  # the size of frames is that of the option
        padding = tokenizer.pad_token_id if told.pad_token_id is None else told.pad_token_id
        # Its own settings punish repetition, also of padding, so that an answer would depend on the rows beside it.
        self._model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=told.eos_token_id, pad_token_id=padding, bos_token_id=told.bos_token_id
        )

    @torch.inference_mode()
    def ask(self, shown: Sequence[Shown], prompt: str, most: int) -> list[str]:
        """What it says of each window.

        Args:
            shown: B windows.
            prompt: the question.
            most: tokens of an answer at most.
        """
        batch = self.batch(shown, prompt)
        said = self._model.generate(**batch, max_new_tokens=most)[:, batch["input_ids"].shape[1] :]
        return [" ".join(text.split()) for text in self._processor.tokenizer.batch_decode(said, skip_special_tokens=True)]

    def batch(self, shown: Sequence[Shown], prompt: str) -> Any:
        """What the model is given: tokens (B, L) of the conversation so far, and the patches of the pictures."""
        from transformers.video_utils import VideoMetadata

        content = [{"type": "video"}, {"type": "text", "text": prompt}]
        question = self._processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
        counts = [len(one.frames) for one in shown]
        return self._processor(
            text=[question] * len(shown),
            videos=[torch.from_numpy(np.ascontiguousarray(one.frames)).permute(0, 3, 1, 2) for one in shown],
            video_metadata=[
                VideoMetadata(total_num_frames=count, fps=one.rate, frames_indices=list(range(count)))
                for count, one in zip(counts, shown, strict=True)
            ],
            do_sample_frames=False,
            padding=True,
            return_tensors="pt",
        ).to(self._model.device)


def checked(folder: Path, owner: str) -> Any:
    """The processor of a folder, with all that can be told of the folder without reading its parameters, of which there may be 68 GB.

    Args:
        folder: as of :class:`VisionLanguage`.
        owner: id of the component, for messages.

    Raises:
        CheckpointError: where it is another model, has no vocabulary or chat template, or its files of weights are absent, cut off or without
            tensors that the index names.
    """
    from transformers import AutoProcessor

    if (kind := pretrained.config(folder, owner).get("model_type")) != KIND:
        raise CheckpointError(f"{owner}: {folder} is a model of kind {kind!r}; expected {KIND!r}")
    pretrained.check_vocabulary(folder, owner)
    _check_weights(folder, owner)
    with pretrained.quiet(), pretrained.told(folder, owner, "the processor of Qwen2.5-VL"):
        processor: Any = AutoProcessor.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if not getattr(processor, "chat_template", None):
        raise CheckpointError(f"{owner}: the processor in {folder} has no chat template, so it cannot be asked; fetch it again")
    return processor


def _check_weights(folder: Path, owner: str) -> None:
    from safetensors import safe_open

    if not (folder / WEIGHTS).is_file() and any(folder.glob("pytorch_model*.bin")):
        return  # tells nothing of itself before it is read
    with pretrained.told(folder, owner, "safetensors"):
        places = {} if (folder / WEIGHTS).is_file() else pretrained.config(folder, owner, INDEX)["weight_map"]
        held = {}
        for name in set(places.values()) or {WEIGHTS}:
            with safe_open(folder / name, framework="pt") as file:  # refuses a file that is cut off
                held[name] = set(file.keys())
        missing = [tensor for tensor, name in places.items() if tensor not in held[name]]
    pretrained.refuse(folder, owner, "its index", missing, [])
