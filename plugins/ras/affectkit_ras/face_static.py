"""``ras/face_static``: seven basic emotions of single pictures of a face, by EmoAffectNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit.api import Checkpoint, CheckpointError, Clip, Input, Modality, Needs, Output
from affectkit.errors import asked_by
from affectkit.labels import AFFECTNET7

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from affectkit_ras.resnet import EmoAffectNet

SIDE = 224  # pixels
MARGIN = 0.1  # of the longer side of the box, on each side
MEAN = (91.4953, 103.8827, 131.0912)  # of blue, green and red, over VGGFace2
TINY = 4  # channels of the first convolution of random weights, instead of 64
PUBLISHED = Checkpoint(
    uri="hf:ElenaRyumina/face_emotion_recognition@ac7861617ab4bdb6aad036317eb40b9ed7fbc94d/FER_static_ResNet50_AffectNet.pt",
    licence="MIT",
    source="Ryumina, Dresvyanskiy and Karpov (Neurocomputing 514, 2022), EmoAffectNet, trained on AffectNet, which is for research",
    labels=AFFECTNET7,
    mean=MEAN,
    size=98_700_000,
    commercial=False,
)


@dataclass(frozen=True)
class FaceStaticOptions:
    """Options of ras/face_static.

    Attributes:
        checkpoint: ``default``, or a file with the weights of EmoAffectNet: its ``.pt``, or what ``affectkit weights convert`` made of the
            published TorchScript.
    """

    checkpoint: str = "default"


class FaceStatic(Modality):
    """Basic emotions of single pictures of a face (modality FS of Team RAS, 9th ABAW): EmoAffectNet, a ResNet-50 trained on AffectNet.

    Its preprocessing is the published one: nearest neighbours to 224 pixels, blue before green before red, the mean of VGGFace2
    subtracted, no scaling. Its seven classes have their own order, ``affectnet7``. The crop is not the published one: the authors widened the
    box of their detector by a tenth of its *coordinates*, so that a face on the right of a picture got a wider crop than the same face on the left,
    and kept a box only where a second detector (FaceMesh) agreed. Here the crop is a square around the box, a tenth of its
    longer side wider on each side, which is what they meant, and made at 224 pixels without aliasing. They looked at each frame; here five per
    second are looked at.

    Embedding ``face``: 512 numbers, ``fc_feats`` of the authors, the mean over the pictures. Quality: ``side`` of the face in pixels of the frame.
    """

    name = "face_static"
    labels = AFFECTNET7
    needs = Needs(inputs=(Input("faces", fps=5.0, size=SIDE, margin=MARGIN),))
    unit = "frame"
    Options = FaceStaticOptions
    checkpoints: ClassVar[Mapping[str, Checkpoint]] = {"default": PUBLISHED}

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._net: EmoAffectNet | None = None

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        from affectkit import weight_files
        from affectkit_ras.resnet import EmoAffectNet, own_names, width_of

        path = self.weights()
        with asked_by(self.id):
            tensors = own_names(weight_files.load_tensors(path))
            net = EmoAffectNet(width_of(tensors))
            weight_files.load_strict(net, tensors, path)
        self._net = net.to(device).eval().requires_grad_(False)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """The network with all its layers, and few channels."""
        from affectkit import weight_files
        from affectkit_ras.resnet import EmoAffectNet

        path = folder / "face_static.safetensors"
        net = weight_files.random_network(lambda: EmoAffectNet(TINY))
        weight_files.save_tensors(path, net.state_dict(), {"licence": weight_files.RANDOM})
        return path

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        import torch

        faces = clip.inputs.get("faces")
        if faces is None or not faces.valid or not len(faces.data["crops"]):
            return None
        crops = np.ascontiguousarray(faces.data["crops"])
        boxes = np.asarray(faces.data.get("boxes", np.full((len(crops), 4), np.nan)), np.float32)
        side = (boxes[:, 2:] - boxes[:, :2]).max(1)
        return {
            "crops": torch.from_numpy(crops),
            "side": torch.from_numpy(np.where(np.isnan(side), crops.shape[1], side).astype(np.float32)),
        }

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        from affectkit_ras.means import per_clip

        if self._net is None:
            raise CheckpointError(f"{self.id} has no weights; load it first")
        crops, mask = batch["crops"], batch["crops_mask"]
        logits, features = self._net(pixels(crops[mask]))
        return Output(
            values={AFFECTNET7: per_clip(logits.float().softmax(1), mask)},
            embeddings={"face": per_clip(features.float(), mask)},
            quality={"side": per_clip(batch["side"][mask][:, None], mask)[:, 0]},
        )


def pixels(crops: torch.Tensor) -> torch.Tensor:
    """Crops as EmoAffectNet was shown them.

    Args:
        crops: (N, H, W, 3) uint8 RGB.

    Returns:
        (N, 3, 224, 224) float32: blue, green, red in [0, 255] less their means.
    """
    import torch
    from torch.nn import functional

    x = crops.permute(0, 3, 1, 2).flip(1).float()
    if x.shape[2:] != (SIDE, SIDE):
        x = functional.interpolate(x, (SIDE, SIDE), mode="nearest-exact")  # the pixel that holds the centre, as in Pillow
    return x - torch.tensor(MEAN, device=x.device).view(3, 1, 1)
