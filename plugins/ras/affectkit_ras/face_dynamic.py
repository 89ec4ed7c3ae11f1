"""``ras/face_dynamic``: emotions of a face over a window, from CLIP's embeddings of its crops in their order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from affectkit.api import BASIC8, Checkpoint, CheckpointError, Clip, ConfigError, Input, Needs, Output
from affectkit.errors import asked_by
from affectkit_ras.headed import HEAD, Headed, read_head, resolved

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from affectkit_ras.sequence_network import VideoFormer, VideoMamba

SIDE = 224  # pixels of a crop
LONGEST = 20  # crops of a window
DIGEST = 16  # bytes that tell one crop from another
BACKBONE = Checkpoint(
    uri="hf:openai/clip-vit-base-patch32@3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    licence="MIT",
    source="Radford et al. (2021), CLIP ViT-B/32; https://github.com/openai/CLIP",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    size=606_000_000,
    files=("config.json", "preprocessor_config.json", "pytorch_model.bin"),
)


@dataclass(frozen=True)
class FaceDynamicOptions:
    """Options of ras/face_dynamic.

    Attributes:
        head: file of the classifier, as ``affectkit train ras/face_dynamic`` writes it, or the state of the authors' VideoMamba or VideoFormer.
        backbone: folder of another CLIP of transformers, instead of the one from the hub.
        least: crops that a window must hold.
        padding: ``"masked"`` leaves out what is not there; ``"published"`` fills a window up to 20 crops with zeros that enter
            everything, as in the authors' batches.
    """

    head: str | None = None
    backbone: str | None = None
    least: int = 1
    padding: Literal["masked", "published"] = "masked"

    def __post_init__(self) -> None:
        if not 1 <= self.least <= LONGEST:
            raise ConfigError(f"least must be from 1 to {LONGEST}, found {self.least}")


class FaceDynamic(Headed):
    """Emotions of a face over a window (modality FD of Team RAS, 9th ABAW): CLIP ViT-B/32 reads up to 20 crops, and a state space or transformer their order.

    The authors cut the box of their detector and let CLIP's processor take the square in its middle; here the crop is a square around
    the box. They averaged several faces of a frame; here each subject is looked at alone. Their classifier is not published. Embedding
    ``motion``: the mean over time of the last layer. Quality: ``faces``, the number of crops, and ``side`` of the face in pixels of the frame.
    """

    name = "face_dynamic"
    needs = Needs(inputs=(Input("faces", count=LONGEST, size=SIDE),))
    Options = FaceDynamicOptions
    checkpoints: ClassVar[Mapping[str, Checkpoint]] = {"backbone": BACKBONE}

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._head: VideoMamba | VideoFormer | None = None
        self._temperature = 1.0

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the backbone and the classifier; forward passes in lower precision run under autocast.

        Raises:
            CheckpointError: where one of them is absent, damaged, or made for another.
        """
        from affectkit import weight_files
        from affectkit_ras.sequence_network import network_of

        self.load_backbone(device)
        path = resolved(self, HEAD)
        tensors, settings = read_head(path, self.id)
        with asked_by(f"{self.id}: {path}"):
            head = network_of(tensors, settings)
        with asked_by(self.id):
            weight_files.load_strict(head, tensors, path)
        wanted, found = head.image_proj[0].in_features, self.frames.size
        if wanted != found:
            raise CheckpointError(
                f"{self.id}: {path} reads embeddings of {wanted} numbers, and the backbone gives {found}; give the backbone it was made with"
            )
        self.check_backbone(settings, self.frames.fingerprint, path)
        self._temperature = float(settings.get("temperature", 1.0))
        self._head = head.eval().requires_grad_(False).to(device)

    def load_backbone(self, device: torch.device) -> None:
        """Loads what reads the crops, which is all that a training of the classifier needs."""
        from affectkit_ras.face_frames import FrameReader

        self._frames = FrameReader(resolved(self, "backbone"), self.id, device, BACKBONE)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """A narrow CLIP in the format of transformers, or a classifier over it."""
        from affectkit import weight_files
        from affectkit_ras import tiny_text
        from affectkit_ras.face_frames import write_processor
        from affectkit_ras.sequence_network import VideoMamba

        if tag != HEAD:
            return write_processor(tiny_text.write_clip(folder / tag))
        head = weight_files.random_network(lambda: VideoMamba(tiny_text.WIDTH, tiny_text.WIDTH, 4, 3, 1))
        path = folder / "face_dynamic.safetensors"
        settings = {"labels": BASIC8.labels, "temperature": 1.0}
        weight_files.save_tensors(path, head.state_dict(), {"settings": json.dumps(settings), "licence": weight_files.RANDOM})
        return path

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        import torch

        faces = clip.inputs.get("faces")
        if faces is None or not faces.valid or len(faces.data["crops"]) < self.options.least:
            return None
        crops = np.ascontiguousarray(faces.data["crops"][:LONGEST])
        digests = [np.frombuffer(hashlib.blake2b(crop.tobytes(), digest_size=DIGEST).digest(), np.uint8) for crop in crops]
        boxes = faces.data.get("boxes")
        side = SIDE if boxes is None else float(np.mean((np.asarray(boxes)[:, 2:] - np.asarray(boxes)[:, :2]).max(1)))
        return {
            "faces": torch.from_numpy(crops),
            "digests": torch.from_numpy(np.stack(digests)),
            "side": torch.tensor(side, dtype=torch.float32),
        }

    def embed(self, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (B, T, D) float32 of a batch of crops, zeros where padded, and which are real, (B, T) bool."""
        return self.frames(batch["faces"], batch["digests"], batch["faces_mask"]), batch["faces_mask"]

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        import torch

        if self._head is None:
            raise CheckpointError(f"{self.id} is asked before its weights are loaded")
        frames, mask = self.embed(batch)
        if self.options.padding == "published":
            frames = torch.nn.functional.pad(frames, (0, 0, 0, LONGEST - frames.shape[1]))
        logits, motion = self._head(frames, None if self.options.padding == "published" else mask)
        return Output(
            values={BASIC8: (logits.float() / self._temperature).softmax(1)},
            embeddings={"motion": motion.float()},
            quality={"faces": mask.sum(1).float(), "side": batch["side"]},
        )
