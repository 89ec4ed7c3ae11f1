"""The published network, reproduced within the tolerance that each golden states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from affectkit_ifdd.model import IFDD, Seen, constraint_loss
from affectkit_ifdd.sizes import Sizes, sizes_of

PARAMETERS = {"ifdd_t16_c7": 37_577_123, "ifdd_t32_c11": 37_580_199}
RELEASED_WEIGHT = 0.1  # of the constraint term in the published loss


def outputs_of(seen: Seen) -> dict[str, torch.Tensor]:
    """What the network saw, under the names of the golden."""
    split = seen.lifted.split
    return {
        "logits": seen.logits,
        "embed": seen.embedded,
        "stage2": seen.stage2,
        "stage3": seen.stage3,
        "pyramid": seen.pyramid.flatten(0, 1),
        "issm_gate": split.gate,
        "issm_index_approx": split.static_index,
        "issm_index_detail": split.dynamic_index,
        "split_approx": split.static,
        "split_detail": split.dynamic,
        "lift_approx": seen.lifted.static,
        "lift_detail": seen.lifted.dynamic,
        "pool_a": seen.constraint,
        "feature": seen.lifted.feature,
        "constraint": RELEASED_WEIGHT * constraint_loss(seen.constraint, per_clip=False)[None],
    }


def filled(golden: ModuleType, meta: Mapping) -> IFDD:
    """The network with the numbers of a golden; its names and shapes are those of the published one."""
    given = meta["constructor"]
    network = IFDD(Sizes(given["num_classes"], given["clip_duration"], released=True))
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes == {name: entry["shape"] for name, entry in meta["state_dict"].items()}
    tensors = golden.fill(meta["state_dict"], meta["rules"], meta["salt"])
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}, strict=True)
    return network.eval()


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_published_network(golden: ModuleType, goldens: Path, name: str) -> None:
    """Logits and all that lies before them; of 16 frames with 7 classes, and of 32 with 11."""
    meta, ref = golden.load(goldens / "dev" / name)
    network = filled(golden, meta)
    assert sum(value.numel() for value in network.parameters()) == meta["parameters"] == PARAMETERS[name]
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert sizes_of(shapes, network.sizes.frames, released=True) == network.sizes
    clip = torch.from_numpy(golden.make_input(meta["inputs"][0], meta["salt"]))
    with torch.inference_mode():
        found = outputs_of(network.see(clip))
    rows = golden.compare(meta, ref, {key: value.numpy() for key, value in found.items()})
    assert {key for key, *_ in rows} >= set(meta["outputs"]) == set(found)
    assert [(key, error, allowed) for key, error, allowed, ok in rows if not ok] == []
