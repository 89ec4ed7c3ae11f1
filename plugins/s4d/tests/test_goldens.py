"""The published network at its full size, reproduced within the tolerance that each golden states."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from affectkit_s4d.model import S4D, Seen, Sizes

GOLDENS = ("s4d_vitb_c7_cap1", "s4d_vitb_c7_nodrop")
LAYERS = (5, 6, 11)


def filled(golden: ModuleType, stem: Path, **given: object) -> tuple[S4D, dict[str, torch.Tensor]]:
    """The network with the numbers of a golden, loaded strictly under the published names in the published order, and the inputs."""
    meta, _ = golden.load(stem)
    network = S4D(**given)  # type: ignore[arg-type]
    state = network.state_dict()
    assert [(name, list(value.shape)) for name, value in state.items()] == [
        (name, entry["shape"]) for name, entry in meta["state_dict"].items()
    ]
    weights = golden.fill(meta["state_dict"], meta["rules"], meta["salt"])
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()}, strict=True)
    return network.eval(), {rule["name"]: torch.from_numpy(golden.make_input(rule, meta["salt"])) for rule in meta["inputs"]}


def parameters_of(network: S4D) -> int:
    return sum(value.numel() for value in network.parameters())


def outputs(network: S4D, kind: str, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """All that a golden holds of one kind of input, under its names."""
    seen: dict[str, torch.Tensor] = {}
    routed = {}
    hooks = [network.patch_embed.register_forward_hook(lambda _, inputs, output: seen.update({f"{kind}_patch_embed": output}))]
    for place, block in enumerate(network.blocks):

        def note(_: object, inputs: object, output: tuple, place: int = place) -> None:
            routed[place] = output[1]
            if place in LAYERS:
                seen[f"{kind}_block{place}"] = output[0]

        hooks.append(block.register_forward_hook(note))
    with torch.inference_mode():
        said: Seen = network(x)
    for hook in hooks:
        hook.remove()
    experts = [routed[place] for place in sorted(routed) if routed[place] is not None]
    return seen | {
        f"{kind}_logits": said.logits,
        f"{kind}_feature": said.feature,
        f"{kind}_moe6": experts[0].values,
        f"{kind}_expert_load": torch.stack([one.load for one in experts]),
        f"{kind}_dropped": torch.stack([one.dropped for one in experts]),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDENS)
def test_released_behaviour_is_that_of_the_published_implementation(golden: ModuleType, goldens: Path, name: str) -> None:
    """Video head, image head, routing and intermediates; the golden's router has no noise."""
    meta, ref = golden.load(goldens / "dev" / name)
    capacity = meta["constructor"]["capacity_factor"]
    network, inputs = filled(golden, goldens / "dev" / name, released_behaviour=True, capacity=capacity)
    assert parameters_of(network) == meta["parameters"] == 100_513_646
    found = {key: value for kind, x in inputs.items() for key, value in outputs(network, kind, x).items()}
    rows = golden.compare(meta, ref, {key: value.numpy() for key, value in found.items()})
    assert {row[0] for row in rows} == set(meta["outputs"]) == set(found)
    assert [(key, error, allowed) for key, error, allowed, ok in rows if not ok] == []


@pytest.mark.slow
def test_the_default_drops_nothing_and_needs_no_neighbours(golden: ModuleType, goldens: Path) -> None:
    """It gives the numbers of the golden in which nothing is dropped, also of pictures one by one."""
    stem = goldens / "dev" / "s4d_vitb_c7_nodrop"
    meta, ref = golden.load(stem)
    network, inputs = filled(golden, stem)
    alone = [outputs(network, "image", x[None]) for x in inputs["image"]]
    found = {key: torch.cat([one[key] for one in alone]).numpy() for key in ("image_logits", "image_feature", "image_block11")}
    rows = golden.compare(meta, ref, found)
    assert len(rows) == 3
    assert [(key, error, allowed) for key, error, allowed, ok in rows if not ok] == []


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        assert parameters_of(S4D()) == 100_513_646
        assert parameters_of(S4D(Sizes(video=11))) == 100_516_722
