"""What a component asks for: of a window pictures, sound and what providers make of them, and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from affectkit.errors import PluginError

if TYPE_CHECKING:
    from affectkit.labels import LabelSet


@dataclass(frozen=True)
class Sampling:
    """How many pictures of a window are wanted; exactly one of ``count`` and ``fps``.

    Attributes:
        count: pictures per window, spread evenly over it, or ``stride`` native frames apart around its centre.
        stride: distance in native frames, resolved on time stamps with the medium's frame rate; only with ``count``.
        fps: pictures per second.
        size: side of the square crop, or shorter side of the whole frame, in pixels; ``None`` keeps the native size.
    """

    count: int | None = None
    stride: int | None = None
    fps: float | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        what = type(self).__name__
        if (self.count is None) == (self.fps is None):
            raise PluginError(f"{what} needs exactly one of count and fps, found count={self.count}, fps={self.fps}")
        if self.stride is not None and self.count is None:
            raise PluginError(f"{what} takes stride only together with count")
        for name in ("count", "stride", "fps", "size"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise PluginError(f"{what} {name} must be positive, found {value}")


@dataclass(frozen=True)
class Frames(Sampling):
    """Whole frames, delivered as ``Clip.frames`` (T, H, W, 3) uint8 RGB with the shorter side ``size`` pixels."""


@dataclass(frozen=True)
class Audio:
    """Sound, delivered as ``Clip.audio`` (N,) float32 mono.

    Attributes:
        rate: samples per second.
    """

    rate: int = 16000

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise PluginError(f"Audio rate must be positive, found {self.rate}")


@dataclass(frozen=True)
class Input:
    """One kind of evidence that a provider makes, delivered as ``Clip.inputs[kind]``.

    Of a kind made from faces, the numbers say which crops its provider sees: ``Input("landmarks", count=16, size=224, margin=0.2)`` beside
    ``Input("faces", count=16, size=224, margin=0.2)`` gives the landmarks of these crops, in their pixels. Where neither ``count`` nor ``fps`` is
    given, how many there are is the provider's choice; where ``size`` is not, their size and margin are.

    Attributes:
        kind: ``"faces"``, ``"transcript"``, ``"description"``, ``"landmarks"``, or a kind of a third party.
        count: crops per window, for ``"faces"`` and kinds made from faces.
        stride: distance of the crops in native frames, as in :class:`Frames`; only with ``count``.
        fps: crops per second, instead of ``count``.
        size: side of the square crop in pixels.
        margin: share of the box added on each side before the square crop is cut (0.2 adds 20 % of the longer side on each side).
    """

    kind: str
    count: int | None = None
    stride: int | None = None
    fps: float | None = None
    size: int | None = None
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not self.kind:
            raise PluginError("Input needs a kind, for instance Input('faces', count=16, size=160)")
        if self.margin < 0:
            raise PluginError(f"Input({self.kind!r}) margin must not be negative, found {self.margin}")
        if self.kind == "faces":
            if self.size is None:
                raise PluginError("Input('faces') needs the size of its crops in pixels, for instance size=112")
            Sampling(self.count, self.stride, self.fps, self.size)


@dataclass(frozen=True)
class Needs:
    """What a modality or provider wants to see of a window; the planner unites the needs of all components.

    Attributes:
        frames: whole frames, where it looks at them.
        audio: sound, where it listens.
        inputs: what providers make, one per kind.
    """

    frames: Frames | None = None
    audio: Audio | None = None
    inputs: tuple[Input, ...] = ()

    def __post_init__(self) -> None:
        kinds = [item.kind for item in self.inputs]
        if len(set(kinds)) < len(kinds):
            raise PluginError(f"Needs asks twice for the same kind of input: {kinds}")


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights, or a folder of files, and what must travel with it.

    Attributes:
        uri: ``package:affectkit_mini/weights/face.safetensors``, ``https://...``, ``hf:org/name@revision/file``,
            ``hf:org/name@revision`` (a folder), or a path.
        sha256: digest of the file, or ``None`` where the source publishes none.
        licence: SPDX identifier or a short description of the terms.
        source: paper, repository or training script.
        labels: label set of the network's output, where it has one.
        mean: channel means in the range of the input.
        std: channel standard deviations in the range of the input.
        also: other paths where the file may be already, for instance where the library that made it keeps its downloads;
            ``~/.cache`` stands for the user's cache folder.
        size: bytes of the file, for lists and before it is downloaded; ``None`` where it is not known.
        commercial: whether the terms of the file, and of the data that it was made from, allow commercial use; ``None`` leaves it to
            ``licence``, where that is an SPDX identifier that says so (:mod:`affectkit.terms`).
        files: of a folder, the files that it must have: their names, or patterns (``*.safetensors``) of which each must fit one file at
            least. They are what is downloaded of a Hugging Face repository, and all there is where none are given.
    """

    uri: str
    sha256: str | None = None
    licence: str = "unknown"
    source: str = ""
    labels: LabelSet | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    also: tuple[str, ...] = ()
    size: int | None = None
    commercial: bool | None = None
    files: tuple[str, ...] = ()
