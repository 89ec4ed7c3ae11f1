"""``ras/feature_fusion``: one opinion, and one embedding, out of the embeddings of the modalities."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from affectkit.api import BASIC8, CheckpointError, ConfigError, Fusion, Output, PluginError, Sources
from affectkit.errors import asked_by
from affectkit.missing import Wanted
from affectkit_ras.headed import read_head

if TYPE_CHECKING:
    import torch

    from affectkit_ras.feature_network import FeatureFusion as Network

MAKE = "affectkit train ras/feature_fusion --data RUN --labels FILE --out ."
PUBLISHED: Mapping[str, str] = {
    "audio_25": "ras/audio:voice",
    "clip": "ras/label_match:image",
    "new_scene": "ras/scene:scene",
    "text": "ras/text:text",
    "video": "ras/face_dynamic:motion",
    "video_static": "ras/face_static:face",
}
"""The embedding that is meant by each name in the authors' weights."""


@dataclass(frozen=True)
class FeatureFusionOptions:
    """Options of ras/feature_fusion.

    Attributes:
        checkpoint: file of weights, as ``affectkit train ras/feature_fusion`` writes it, or the state of one of the authors' models V1 to V4.
        missing: ``"masked"`` sources say nothing, where the version can leave one out (V2, V3 and V4 but for its scene); ``"published"``
            takes zeros for them, as the authors did, which V2 hears as an embedding like any other.
    """

    checkpoint: str | None = None
    missing: Literal["masked", "published"] = "masked"


class FeatureFusion(Fusion):
    """Feature-level fusion (Team RAS, 9th ABAW, arXiv 2507.02205): the published networks V1 to V4 over the embeddings of the modalities.

    Their weights are not published. What a source says is not looked at, only its embedding. The embedding ``fused`` is for ``core/pfsa`` and
    other heads: ``ras/feature_fusion:fused``. Of a row without any embedding nothing is said.
    """

    name = "feature_fusion"
    labels = BASIC8
    Options = FeatureFusionOptions

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._network: Network | None = None
        self._inputs: Mapping[str, str] = {}
        self._temperature = 1.0

    def check_given(self) -> None:
        """Refuses a recipe that names no weights."""
        if not self.options.checkpoint:
            raise ConfigError(
                f"{self.id} is not fitted, and nobody publishes its weights: make them of runs with --embeddings, "
                f"'{MAKE}', and give the file with "
                "--set components.ras/feature_fusion.checkpoint=ras_feature_fusion.safetensors; or take --fusion core/mean, which needs none",
                wanted=Wanted(
                    self.id,
                    "ras_feature_fusion.safetensors",
                    make=MAKE,
                    give="--set components.ras/feature_fusion.checkpoint=FILE",
                    instead="--fusion core/mean, which needs none",
                ),
            )

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the fitted network; it stays in single precision.

        Raises:
            ConfigError: where the recipe names no file.
            CheckpointError: where the file is absent, damaged, or of another make.
        """
        from affectkit import weight_files
        from affectkit_ras.feature_network import network_of

        self.check_given()
        path = self.weights()
        tensors, settings = read_head(path, self.id)
        with asked_by(f"{self.id}: {path}"):
            _, network = network_of(tensors, settings)
        with asked_by(self.id):
            weight_files.load_strict(network, tensors, path)
        known = settings.get("inputs", PUBLISHED)
        if strange := [name for name in network.names if ":" not in known.get(name, "")]:
            raise CheckpointError(f"{self.id}: {path} does not say which embeddings are meant by {', '.join(strange)}; make it anew")
        self._inputs = {name: known[name] for name in network.names}
        self._temperature = float(settings.get("temperature", 1.0))
        self._network = network.eval().requires_grad_(False).to(device)
        self.trained_for = tuple(dict.fromkeys(embedding.partition(":")[0] for embedding in self._inputs.values()))

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """Random weights of V3 for the sources of a recipe, in the sizes of their own random weights."""
        from affectkit import weight_files
        from affectkit_ras.feature_network import FusionV3
        from affectkit_ras.resnet import FEATURES
        from affectkit_ras.tiny_text import WIDTH

        sizes = dict.fromkeys(PUBLISHED, WIDTH) | {"audio_25": 256, "clip": 16, "video_static": FEATURES}  # of their own random weights
        named = {name: size for name, size in sizes.items() if PUBLISHED[name].partition(":")[0] in sources}
        if not named:
            raise CheckpointError(f"{self.id} has random weights only for the modalities of ras, and the recipe has none of them")
        network = weight_files.random_network(lambda: FusionV3(named))
        settings = {"labels": BASIC8.labels, "inputs": {name: PUBLISHED[name] for name in named}, "names": list(named), "temperature": 1.0}
        path = folder / "feature_fusion.safetensors"
        weight_files.save_tensors(path, network.state_dict(), {"settings": json.dumps(settings), "licence": weight_files.RANDOM})
        return path

    def fuse(self, sources: Sources) -> Output:
        """Fused values (N, 8) and the embedding ``fused``; NaN where no source has an embedding.

        Raises:
            ConfigError: where it is not loaded.
            PluginError: where an embedding has another size than the weights are for.
        """
        import torch

        if self._network is None:
            raise ConfigError(f"{self.id} is not fitted: load its weights before fusing")
        rows = len(sources.values)
        device = next(self._network.parameters()).device
        features, there = {}, {}
        for name, embedding in self._inputs.items():
            size = self._network.sizes[name]
            found = sources.embeddings.get(embedding)
            if found is None:  # the source is not in the run, or had no evidence in this medium
                found = torch.full((rows, size), torch.nan)
            if found.shape[1] != size:
                raise PluginError(f"{self.id} was fitted to {embedding} of {size} numbers, and the run has {found.shape[1]}; fit it anew")
            there[name] = found.isfinite().all(dim=1).to(device)
            features[name] = found.float().to(device).where(there[name][:, None], 0.0)
        logits, fused = self._network(features, there if self.options.missing == "masked" else None)
        said = torch.stack(list(there.values())).any(dim=0)[:, None]
        values = (logits / self._temperature).softmax(dim=1).where(said, torch.nan)
        return Output({BASIC8: values.to(sources.values.device)}, {"fused": fused.where(said, torch.nan).to(sources.values.device)})
