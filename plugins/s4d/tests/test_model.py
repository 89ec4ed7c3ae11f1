"""The network at a reduced width: experts against a loop over tokens, determinism, batches, errors, what learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from affectkit_s4d.experts import ExpertLayer, balance
from affectkit_s4d.model import S4D, Sizes, clips_of, rates, sincos, standardised
from affectkit_s4d.views import measured_frames, stride_of, training_frames, views
from torch.nn import functional

from affectkit.api import CheckpointError, UsageError

from .conftest import SMALL, clips, small


def layer(**given: object) -> ExpertLayer:
    torch.manual_seed(0)
    made = ExpertLayer(16, 4, 2, 8, **given)  # type: ignore[arg-type]
    made.router.topkroute_linear.weight.data.mul_(3)
    return made.eval()


def one_by_one(made: ExpertLayer, x: torch.Tensor, room: int) -> torch.Tensor:
    """What the layer should say, token by token and expert by expert."""
    out = torch.zeros_like(x)
    served = [0] * len(made.experts)
    for row in range(x.shape[0]):
        for place in range(x.shape[1]):
            token = x[row, place]
            logits = made.router.topkroute_linear(token)
            best = sorted(range(len(logits)), key=lambda expert: -float(logits[expert]))[: made.top_k]
            share = torch.exp(logits[best]) / torch.exp(logits[best]).sum()
            for weight, expert in zip(share, best, strict=True):
                if served[expert] < room:
                    adapter = made.experts[expert]
                    out[row, place] += weight * adapter.fc2(functional.gelu(adapter.fc1(token)))
                served[expert] += 1
    return out


@pytest.mark.parametrize("capacity", [None, 1.0, 0.5])
def test_experts_are_those_of_a_loop_over_tokens(capacity: float | None) -> None:
    made, x = layer(capacity=capacity), torch.randn(3, 10, 16, generator=torch.Generator().manual_seed(1))
    room = 60 if capacity is None else int(60 / 4 * capacity)
    with torch.no_grad():
        found = made(x)
        torch.testing.assert_close(found.values, one_by_one(made, x, room), atol=1e-6, rtol=1e-5)
    assert int(found.load.sum()) == 60
    assert found.dropped.tolist() == [max(sent - room, 0) for sent in found.load.tolist()]


def test_experts_without_tokens_learn_nothing_and_break_nothing() -> None:
    made = layer()
    made.router.topkroute_linear.bias.data[:] = torch.tensor([100.0, 99.0, 0.0, 0.0])
    made(torch.randn(1, 5, 16)).values.sum().backward()
    assert made.experts[3].fc1.weight.grad is not None
    assert made.experts[3].fc1.weight.grad.abs().max() == 0
    assert made.experts[0].fc1.weight.grad.abs().max() > 0


def test_the_router_is_noisy_only_where_it_learns() -> None:
    made, x = layer(), torch.randn(2, 5, 16)
    assert torch.equal(made(x).values, made(x).values)
    made.train()
    assert not torch.equal(made(x).values, made(x).values)
    made(x).values.sum().backward()
    assert made.router.noise_linear.weight.grad.abs().max() > 0


def test_released_behaviour_has_a_noisy_router_in_evaluation() -> None:
    x = clips(2)
    with torch.inference_mode():
        network = small()
        assert torch.equal(network(x).logits, network(x).logits)
        network = small(released_behaviour=True)
        assert not torch.equal(network(x).logits, network(x).logits)


def test_released_behaviour_drops_the_last_tokens() -> None:
    """An expert that is full serves nobody any more, so that what is said of a clip hangs on those before it in the batch."""
    x = clips(4)
    network = small(released_behaviour=True)
    for value in (part for name, part in network.named_parameters() if "noise_linear" in name):
        value.data.fill_(-100.0 if value.ndim == 1 else 0.0)
    with torch.inference_mode():
        together, alone = network(x).logits, torch.cat([network(one[None]).logits for one in x])
        assert (together - alone).abs().max() > 1e-3
        network = small()
        torch.testing.assert_close(network(x).logits, torch.cat([network(one[None]).logits for one in x]), atol=1e-5, rtol=0)


def test_the_load_balance_loss_is_least_where_experts_are_wanted_alike() -> None:
    """1 where all are wanted alike, E where one does everything; following its gradient evens the load out."""
    even = torch.eye(4).repeat(5, 1) * 30
    assert float(balance(even, torch.full((4,), 5))) == pytest.approx(1.0)
    assert float(balance(torch.tensor([[30.0, 0, 0, 0]]).repeat(20, 1), torch.tensor([20, 0, 0, 0]))) == pytest.approx(4.0, abs=1e-3)
    made, x = layer(), torch.randn(8, 20, 16, generator=torch.Generator().manual_seed(2))
    made.router.topkroute_linear.bias.data[0] = 3.0
    before = made(x)
    optimiser = torch.optim.Adam(made.router.topkroute_linear.parameters(), 0.05)
    for _ in range(60):
        optimiser.zero_grad()
        made(x).balance.backward()
        optimiser.step()
    after = made(x)
    assert float(after.balance.detach()) < float(before.balance.detach()) - 0.1
    assert int(after.load.max()) < 0.7 * int(before.load.max())


def test_clips_and_pictures_share_all_but_the_heads() -> None:
    network = small()
    video, image = network(clips(2)), network(clips(2)[:, :, 0])
    assert video.logits.shape == image.logits.shape == (2, 7)
    image.logits.sum().backward()
    without = {name for name, value in network.named_parameters() if value.grad is None and "noise" not in name}
    assert without == {"head.video.weight", "head.video.bias"}


def test_a_picture_is_a_clip_of_two_frames_that_are_alike() -> None:
    """Its tokens are those of the first two frames of a clip, at the first places."""
    network = small()
    still = clips(1)[:, :, :1].expand(-1, -1, SMALL.frames, -1, -1)
    one, many = network.patch_embed(still[:, :, 0]), network.patch_embed(still)
    torch.testing.assert_close(one, many[:, : SMALL.places])
    assert (many.shape[1], one.shape[1]) == (SMALL.tokens, SMALL.places) == (8, 4)


def test_the_order_of_frames_matters() -> None:
    network = small()
    with torch.inference_mode():
        assert (network(clips(1)).logits - network(clips(1).flip(2)).logits).abs().max() > 1e-4


@pytest.mark.parametrize("shape", [(2, 3, 6, 32, 32), (2, 3, 4, 48, 32), (2, 1, 32, 32), (3, 32, 32)])
def test_other_frames_and_sizes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"reads clips \(B, 3, 4, 32, 32\) or pictures \(B, 3, 32, 32\), found"):
        small()(torch.zeros(shape))


def test_sizes_are_read_off_the_tensors() -> None:
    for sizes in (SMALL, Sizes(depth=7, video=11), Sizes(width=64, heads=1, depth=2, experts=0, first=2, hidden=128)):
        with torch.device("meta"):
            state = S4D(sizes).state_dict()
        known = {name: getattr(sizes, name) for name in ("side", "frames", "heads", "top_k")}
        assert Sizes.of(state, known) == sizes
    with pytest.raises(CheckpointError, match="no weights of S4D"):
        Sizes.of({"patch_embed.proj.weight": torch.zeros(4, 3, 2, 16, 16)})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"side": 30}, "side 30 is not a multiple of patch 16"),
        ({"frames": 3}, "frames must be even"),
        ({"top_k": 9}, "top_k must be from 1 to the 8"),
    ],
)
def test_sizes_that_do_not_fit(given: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sizes(**given)


def test_positions_are_sines_and_cosines_of_the_place() -> None:
    table = sincos(800, 768)
    for place, column in ((0, 0), (1, 0), (1, 1), (17, 5), (799, 767)):
        angle = place / 10000 ** (2 * (column // 2) / 768)
        assert float(table[place, column]) == pytest.approx(np.cos(angle) if column % 2 else np.sin(angle), abs=1e-6)


def test_pixels_are_standardised_as_of_imagenet() -> None:
    pixels = torch.full((1, 2, 8, 8, 3), 255, dtype=torch.uint8)
    found = clips_of(pixels, 16)
    assert found.shape == (1, 3, 2, 16, 16)
    torch.testing.assert_close(found[0, :, 0, 0, 0], (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225]))
    torch.testing.assert_close(standardised(torch.ones(3, 1, 1))[:, 0, 0], found[0, :, 0, 0, 0])


def test_rates_fall_towards_the_input() -> None:
    """As published: a block learns three quarters of what the one above it does."""
    with torch.device("meta"):
        network = S4D()
    found = rates(network, 0.75)
    assert set(found) == {name for name, _ in network.named_parameters()}
    assert found["patch_embed.proj.weight"] == pytest.approx(0.75**13)
    assert found["blocks.0.attn.q_bias"] == pytest.approx(0.75**12)
    assert found["blocks.11.moe_layer.experts.3.fc1.weight"] == pytest.approx(0.75)
    assert found["head.video.weight"] == found["fc_norm.weight"] == 1.0


@pytest.mark.parametrize(
    ("count", "stride", "first", "last"),
    [
        (1, 4, [0] * 16, None),
        (12, 4, [0, 4, 8, *[8] * 13], None),
        (16, 1, list(range(16)), None),
        (17, 1, list(range(16)), list(range(1, 17))),
        (64, 4, list(range(0, 64, 4)), None),
        (200, 4, list(range(0, 64, 4)), list(range(136, 200, 4))),
    ],
)
def test_measured_frames_are_the_published_ones(count: int, stride: int, first: list[int], last: list[int] | None) -> None:
    assert measured_frames(count, stride).tolist() == [first] + ([] if last is None else [last])


@pytest.mark.parametrize("count", [1, 3, 12, 16, 17, 63, 64, 65, 200])
@pytest.mark.parametrize("stride", [1, 4])
def test_training_frames_are_a_stretch_of_the_clip(count: int, stride: int) -> None:
    random = np.random.default_rng(0)
    drawn = np.stack([training_frames(count, stride, random) for _ in range(200)])
    steps = np.diff(drawn, axis=1)
    assert drawn.min() >= 0
    assert drawn.max() < count
    assert set(np.unique(steps)) <= {0, stride}
    assert (np.diff((steps == 0).astype(int), axis=1) >= 0).all(), "only the last frame is repeated"
    if count >= 17 * stride:
        assert (steps == stride).all()
        assert {0, count - 15 * stride - 1} <= set(drawn[:, 0].tolist())


@pytest.mark.parametrize(
    ("count", "stride", "wanted"),
    [(12, 4, [0, 6, *[11] * 14]), (3, 4, [2] * 16), (16, 1, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])],
)
def test_released_behaviour_repeats_the_last_frame_of_short_clips(count: int, stride: int, wanted: list[int]) -> None:
    assert training_frames(count, stride, np.random.default_rng(0), released_behaviour=True).tolist() == wanted


def test_released_behaviour_spreads_over_a_drawn_stretch_of_long_clips() -> None:
    random = np.random.default_rng(0)
    drawn = np.stack([training_frames(100, 4, random, released_behaviour=True) for _ in range(300)])
    assert (drawn[:, -1] - drawn[:, 0] == 63).all()
    assert (drawn[:, 0].min(), drawn[:, -1].max()) == (0, 98)


def test_strides_are_those_of_the_data_sets() -> None:
    assert [stride_of(name) for name in ("dfew7", "mafw11", "ferv39k7", "others")] == [4, 4, 1, 4]
    for wrong in (lambda: views(0), lambda: training_frames(0, 1, np.random.default_rng(0))):
        with pytest.raises(UsageError, match="no frames"):
            wrong()
