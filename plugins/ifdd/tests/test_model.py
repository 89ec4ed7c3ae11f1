"""The network, on narrow ones: what its parts do, and what they begin with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from affectkit_ifdd.lifting import REACH, Lifting, Splitting
from affectkit_ifdd.model import IFDD, constraint_loss
from affectkit_ifdd.pretrained import begin
from affectkit_ifdd.sizes import MEAN, SLOTS, STD, Sizes, sizes_of
from torch.nn import functional

from affectkit.api import CheckpointError, ConfigError, UsageError

OWNER = "ifdd/face_dynamic_training"
NARROW = Sizes(classes=5, side=64, width=8, blocks=(1, 1, 1, 1))


def network(**changes: object) -> IFDD:
    torch.manual_seed(0)
    return IFDD(replace(NARROW, **changes)).eval()  # type: ignore[arg-type]


def clips(count: int = 2, sizes: Sizes = NARROW) -> torch.Tensor:
    return torch.rand(count, 3, sizes.frames, sizes.side, sizes.side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("frames", [16, 32])
def test_shapes_tell_the_sizes(frames: int) -> None:
    made = network(frames=frames, blocks=(1, 2, 1, 1))
    shapes = {name: tuple(value.shape) for name, value in made.state_dict().items()}
    assert sizes_of(shapes, frames, released=False) == made.sizes
    seen = made.see(clips(sizes=made.sizes))
    assert seen.logits.shape == (2, 5)
    assert seen.pyramid.shape == (2, SLOTS, 64, 2, 2)
    assert seen.constraint.shape == (2, 2, 2)


def test_clips_of_another_shape_are_refused() -> None:
    with pytest.raises(UsageError, match=r"clips of shape \(B, 3, 16, 64, 64\), found \(2, 3, 32, 64, 64\)"):
        network()(clips(sizes=replace(NARROW, frames=32)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 8}, "16 or 32 frames, found 8"),
        ({"side": 100}, "multiple of 32 pixels, found 100"),
        ({"blocks": (1, 2)}, "four stages"),
        ({"width": 0}, "four stages"),
    ],
)
def test_networks_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(NARROW, **changes)  # type: ignore[arg-type]


def test_an_answer_depends_on_its_clip_alone() -> None:
    """It is the same each time, and beside other clips."""
    made, given = network(), clips(3)
    with torch.inference_mode():
        together = made(given)
        assert torch.equal(together, made(given))
        alone = torch.cat([made(clip[None]) for clip in given])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_order_of_frames_matters() -> None:
    made, given = network(), clips()
    with torch.inference_mode():
        assert (made(given) - made(given.flip(2))).abs().max() > 1e-4


@pytest.mark.parametrize("aligned", [True, False])
def test_slots_are_read_as_grid_sample_reads_them(aligned: bool) -> None:
    """Of coordinates that are made for its corners, as the published code makes them, with either of its conventions."""
    patches = torch.randn(3, SLOTS, 4, 2, 2)
    index = torch.rand(3, 4) * (SLOTS - 1 + 2 * REACH) - REACH
    grid = torch.stack([torch.zeros_like(index), 2 * index / (SLOTS - 1) - 1], -1)[:, :, None]
    columns = patches.flatten(2).transpose(1, 2)[..., None]
    wanted = functional.grid_sample(columns, grid, "bilinear", "border", align_corners=aligned).squeeze(-1)
    found = Splitting(4, aligned).at(patches, index)
    torch.testing.assert_close(found, wanted.unflatten(1, (4, 4)).permute(0, 3, 2, 1).flatten(1, 2), atol=1e-6, rtol=1e-5)


def test_released_behaviour_reads_beside_the_index() -> None:
    index = torch.tensor([[0.0, 3.0, 3.5, 7.0, 9.0]])
    assert Splitting(4, aligned=True).places(index).tolist() == [[0.0, 3.0, 3.5, 7.0, 7.0]]
    torch.testing.assert_close(Splitting(4, aligned=False).places(index), torch.tensor([[0.0, 8 * 3 / 7 - 0.5, 3.5, 7.0, 7.0]]))


def test_an_index_moves_by_two_slots_at_most() -> None:
    split = Splitting(6, aligned=True)
    torch.nn.init.constant_(split.offset_project_approx[0].weight, 9.0)
    torch.nn.init.constant_(split.offset_project_detail[0].weight, -9.0)
    found = split(torch.randn(1, SLOTS, 6, 2, 2))
    torch.testing.assert_close(found.static_index, torch.tensor([[2.0, 4.0, 6.0, 8.0]]))
    torch.testing.assert_close(found.dynamic_index, torch.tensor([[-1.0, 1.0, 3.0, 5.0]]))


def test_the_lifting_updates_first_and_predicts_from_what_was_updated() -> None:
    """Against the two steps written out with torch's own attention."""
    torch.manual_seed(0)
    lifting = Lifting(16, 2, aligned=True, dropped=0.2, whole_dropped=False).eval()
    patches = torch.randn(2, SLOTS, 16, 2, 2)

    def told(query: torch.nn.Linear, both: torch.nn.Linear, asks: torch.Tensor, says: torch.Tensor) -> torch.Tensor:
        attention = torch.nn.MultiheadAttention(16, 8, batch_first=True)
        with torch.no_grad():
            attention.in_proj_weight.copy_(torch.cat([query.weight, both.weight]))
            attention.in_proj_bias.copy_(torch.cat([query.bias, both.bias]))
            attention.out_proj.weight.copy_(torch.eye(16))
            attention.out_proj.bias.zero_()
        return attention(asks, says, says, need_weights=False)[0] + (says @ both.weight[16:].T + both.bias[16:])

    with torch.no_grad():
        found = lifting(patches)
        static, dynamic = lifting.xa_norm(found.split.static), lifting.xd_norm(found.split.dynamic)
        static = static + lifting.project_a(told(lifting.q_a, lifting.kv_d, static, dynamic))
        dynamic = dynamic - lifting.project_d(told(lifting.q_d, lifting.kv_a, dynamic, static))
    torch.testing.assert_close(found.static, static, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.dynamic, dynamic, atol=1e-5, rtol=1e-4)


def test_the_constraint_is_what_the_static_part_lacks() -> None:
    made = network()
    with torch.inference_mode():
        seen = made.see(clips())
    pairs = (seen.pyramid[:, 0::2] + seen.pyramid[:, 1::2]) / 2
    static = seen.lifted.static.unflatten(1, (4, 2, 2))
    torch.testing.assert_close(seen.constraint, pairs.mean((1, 2)) - static.mean((1, 4)), atol=1e-6, rtol=1e-5)


def test_the_constraint_counts_the_same_in_every_batch() -> None:
    """By default; ``released_behaviour`` adds the clips up, so that twice as many constrain twice as much."""
    maps = torch.randn(4, 7, 7)
    twice = torch.cat([maps, maps])
    torch.testing.assert_close(constraint_loss(twice), constraint_loss(maps))
    torch.testing.assert_close(constraint_loss(twice, per_clip=False), 2 * constraint_loss(maps, per_clip=False))
    torch.testing.assert_close(16 * constraint_loss(twice[:1]) / 16, functional.smooth_l1_loss(maps[0], torch.zeros(7, 7)))


def test_released_behaviour_leaves_the_whole_feature_out() -> None:
    """Of a fifth of the clips in training, and of none otherwise."""
    given = clips(24)
    for released, some in ((True, True), (False, False)):
        made = network(released=released).train()
        torch.manual_seed(1)
        with torch.no_grad():
            empty = (made.see(given).lifted.feature == 0).all(1)
        assert bool(empty.any()) is some
        assert not empty.all()


def test_released_behaviour_takes_pixels_as_they_are() -> None:
    ours, released = network(), network(released=True)
    released.load_state_dict(ours.state_dict())
    given = clips()
    with torch.inference_mode():
        torch.testing.assert_close(released.see((given - MEAN) / STD).embedded, ours.see(given).embedded)


def test_what_is_published_and_never_used_does_not_learn() -> None:
    made = network().train()
    made(clips(4)).sum().backward()
    idle = {name for name, value in made.named_parameters() if not value.requires_grad}
    dead = ("spatial_pos", "temporal_pos", "class_pos", "time_project")
    assert idle == {name for name, _ in made.named_parameters() if any(part in name for part in dead)}
    assert [name for name, value in made.named_parameters() if value.requires_grad and value.grad is None] == []


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision writes it of its own network, with random numbers."""
    from torchvision.models.video import mvit_v2_s

    torch.manual_seed(3)
    made = mvit_v2_s(weights=None)
    path = tmp_path_factory.mktemp("kinetics") / "mvit_v2_s.pth"
    torch.save(made.state_dict(), path)
    return path


def test_the_start_is_torchvisions_network(kinetics: Path) -> None:
    """What comes out of its block 7, on pixels standardised as it expects them, comes out of the third stage; blocks 14 and 15 are the last two."""
    from torchvision.models.video import mvit_v2_s

    made = IFDD().eval()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    begin(made, kinetics, OWNER)
    after, state = made.state_dict(), torch.load(kinetics, weights_only=True)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert all(name.startswith(("embed.", "backbone.backbone.")) for name in changed)
    for theirs, ours in (("conv_proj.weight", "embed.conv_proj.weight"), ("norm.bias", "backbone.backbone.norm.bias")):
        assert torch.equal(state[theirs], after[ours])
    for theirs, ours in ((14, 8), (15, 9), (7, 7)):
        name = "attn.qkv.weight"
        assert torch.equal(state[f"blocks.{theirs}.{name}"], after[f"backbone.backbone.blocks.{ours}.{name}"])
    own = mvit_v2_s(weights=None).eval()
    own.load_state_dict(state)
    said: list[torch.Tensor] = []
    own.blocks[7].register_forward_hook(lambda module, given, out: said.append(out[0]))
    given = clips(1, made.sizes)
    with torch.inference_mode():
        own((given - 0.45) / 0.225)
        found = made.see(given).stage2
    torch.testing.assert_close(found, said[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (network, lambda t: t, "published width and depth alone"),
        (lambda: network(released=True), lambda t: t, "standardised"),
        (IFDD, lambda t: {k: v for k, v in t.items() if k != "norm.weight"}, r"1 missing: backbone\.backbone\.norm\.weight"),
        (IFDD, lambda t: {**t, "cls_token": t["norm.weight"]}, r"1 unexpected: backbone\.backbone\.cls_token"),
        (IFDD, lambda t: {"conv_proj.weight": t["conv_proj.weight"]}, "must be mvit_v2_s of torchvision"),
    ],
)
def test_starts_that_do_not_fit(
    kinetics: Path,
    tmp_path: Path,
    make: Callable[[], IFDD],
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    message: str,
) -> None:
    path = tmp_path / "other.pth"
    torch.save(change(torch.load(kinetics, weights_only=True)), path)
    with pytest.raises(CheckpointError, match=f"^{OWNER}: .*{message}"):
        begin(make(), path, OWNER)
