"""What the network of faces begins with: dlib's face recognition network, which its author gave to the public domain (CC0).

King 2017, https://github.com/davisking/dlib-models: a residual network that learned to tell people apart from three million pictures.
The package ``face_recognition_models`` carries its file. Layers follow each other in it as a picture passes through them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from affectkit.api import CheckpointError
from affectkit_mini.networks import Convolution, FaceNet
from affectkit_mini.trainings.published import Published

NETWORK = Published(
    component="mini/face_static",
    package="face_recognition_models==0.3.0",
    module="face_recognition_models",
    file="models/dlib_face_recognition_resnet_model_v1.dat",
    digest="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    install="pip install face_recognition_models==0.3.0",
)


def begin(network: FaceNet, path: Path) -> None:
    """Gives the convolutions of a network what dlib's have learned; the colours of its first are added up, since it sees grey.

    Where dlib's network multiplies and adds numbers of each channel, this one normalises; its statistics are those of channels that need no
    normalisation, so that both say the same until :func:`settle` is called.

    Args:
        network: new; it is changed.
        path: of :meth:`Published.path`.
    """
    raw, at = path.read_bytes(), 0
    for layer in network.convolutions:
        shape = layer.weigh.weight.shape
        colours = 3 if shape[1] == 1 else shape[1]
        learned, at = _array(path, raw, at, shape[0] * colours * shape[2] * shape[3] + shape[0])
        factors, at = _array(path, raw, at, 2 * shape[0])
        weights = learned[: -shape[0]].view(shape[0], colours, *shape[2:])
        scale, shift = factors.chunk(2)
        layer.weigh.weight.data = weights.sum(1, keepdim=True) if colours != shape[1] else weights.clone()
        _describe(layer, torch.zeros_like(scale), torch.ones_like(scale), scale, shift + scale * learned[-shape[0] :])


@torch.no_grad()
def settle(network: FaceNet, crops: Tensor) -> None:
    """Gives every normalisation the statistics of what comes there from these crops, (B, 1, 48, 48) standardised; what the network says stays the same."""
    network.eval()
    for layer in network.convolutions:
        seen: list[Tensor] = []
        hook = layer.weigh.register_forward_hook(lambda module, given, found, seen=seen: seen.append(found))  # type: ignore[misc]
        network.features(crops)
        hook.remove()
        norm = layer.norm
        state = norm.state_dict()
        scale = norm.weight / (state["running_var"] + norm.eps).sqrt()
        _describe(layer, seen[0].mean((0, 2, 3)), seen[0].var((0, 2, 3)), scale, norm.bias - state["running_mean"] * scale)
    network.train()


def _describe(layer: Convolution, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor) -> None:
    """Makes a normalisation of these statistics multiply by ``scale`` and add ``shift``."""
    norm = layer.norm
    norm.running_mean, norm.running_var = mean.clone(), variance.clone()
    norm.weight.data = scale * (variance + norm.eps).sqrt()
    norm.bias.data = shift + scale * mean


def _array(path: Path, raw: bytes, after: int, count: int) -> tuple[Tensor, int]:
    """The next vector of ``count`` numbers in a file of dlib, and where it ends. dlib writes four sides, here the count and three ones, each as
    the number of its bytes and the bytes, the lowest first; then the numbers as 32-bit floats."""
    length = (count.bit_length() + 7) // 8
    mark = bytes([length]) + count.to_bytes(length, "little") + b"\x01\x01" * 3
    place = raw.find(mark, after)
    if place < 0:
        raise CheckpointError(
            f"{path} is damaged or of another network: it has not the {count} numbers that are expected after byte {after}"
        )
    begin = place + len(mark)
    if begin + 4 * count > len(raw):
        raise CheckpointError(f"{path} ends after {len(raw)} bytes, within the {count} numbers at byte {begin}; get it again")
    return torch.from_numpy(np.frombuffer(raw, "<f4", count, begin).copy()), begin + 4 * count
