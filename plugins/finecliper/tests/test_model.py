"""The network: what adapters that learned nothing leave alone, what is frozen, how streams count, CLIP's own format."""

from __future__ import annotations

import argparse
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from affectkit_finecliper import clip_files
from affectkit_finecliper.clip_files import Backbone
from affectkit_finecliper.model import FineCliper, stirred, unit
from affectkit_finecliper.shape import STREAMS, Shape
from open_clip import CLIP, get_model_config
from torch import Tensor, nn

from affectkit import open_clip_files
from affectkit.api import CheckpointError, ConfigError, UsageError

TEXTS = ["a face", "an angry face with lowered brows and a hard stare", "a face that does not smile"]
Make = Callable[..., FineCliper]


@pytest.fixture(scope="module")
def read(backbone: Path) -> Backbone:
    return clip_files.load(backbone, "finecliper/face_dynamic", openai=False)


@pytest.fixture
def make(read: Backbone) -> Make:
    """A network in a CLIP of its own; in evaluation mode."""

    def made(*, tuned: bool = False, **shape: object) -> FineCliper:
        torch.manual_seed(0)
        network = FineCliper(copy.deepcopy(read.clip), Shape(**shape))  # type: ignore[arg-type]
        return (stirred(network) if tuned else network).eval()

    return made


def pictures(clips: int = 2, frames: int = 16, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(clips, frames, 3, side, side, generator=torch.Generator().manual_seed(seed))


def all_streams(clips: int = 2) -> dict[str, Tensor]:
    return {name: pictures(clips, seed=place) for place, name in enumerate(STREAMS)}


@torch.no_grad()
def test_before_anything_is_tuned_every_frame_and_text_is_exactly_what_clip_says(make: Make, read: Backbone):
    """Adapters end in zeros, so what they add is zero: tokens are equal to the last bit, and a clip is the mean of its frames."""
    network, clip = make(), read.clip
    seen = network._shown(pictures().flatten(0, 1))
    tokens: list[Tensor] = []
    network.clip.visual.ln_post.register_forward_pre_hook(lambda module, given: tokens.append(given[0]))
    point = network.video(pictures())
    expected = clip.visual.transformer(clip.visual._embeds(seen))[:, 0]
    assert torch.equal(tokens[0], expected)
    frames = clip.encode_image(seen).unflatten(0, (2, 16))
    torch.testing.assert_close(point, unit(frames.mean(1)), atol=1e-6, rtol=0)
    words = read.tokens(TEXTS)
    torch.testing.assert_close(network.texts(words), unit(clip.encode_text(words)), atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    "shape", [(2, 8, 3, 32, 32), (2, 1, 3, 32, 32), (2, 16, 3, 48, 32), (2, 16, 1, 32, 32), (2, 3, 16, 32, 32), (16, 3, 32, 32), ()]
)
def test_clips_of_another_shape_are_refused(shape: tuple[int, ...], make: Make):
    with pytest.raises(UsageError, match=re.escape(f"reads clips of shape (B, 16, 3, S, S), found {shape}")):
        make()({"frames": torch.zeros(shape)}, torch.ones(2, 1, dtype=torch.bool))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["T_Adapter", "S_Adapter", "MLP_Adapter"])
def test_every_adapter_of_the_frames_is_heard(kind: str, make: Make):
    network = make()
    before = network.video(pictures())
    nn.init.normal_(network.clip.visual.transformer.resblocks[1].get_submodule(kind).D_fc2.weight, std=0.1)
    assert (network.video(pictures()) - before).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("kind", ["S_Adapter", "MLP_Adapter"])
def test_every_adapter_of_the_texts_is_heard(kind: str, make: Make, read: Backbone):
    network, words = make(), read.tokens(TEXTS)
    before = network.texts(words)
    nn.init.normal_(network.clip.transformer.resblocks[1].get_submodule(kind).D_fc2.weight, std=0.1)
    assert (network.texts(words) - before).abs().max() > 1e-4


@torch.no_grad()
def test_the_order_of_frames_counts_once_adapters_are_tuned(make: Make):
    plain, tuned = make(), make(tuned=True)
    seen, turned = pictures(), pictures().flip(1)
    torch.testing.assert_close(plain.video(turned), plain.video(seen), atol=1e-6, rtol=0)
    assert (tuned.video(turned) - tuned.video(seen)).abs().max() > 1e-4


@torch.no_grad()
def test_a_layer_is_the_published_formula(make: Make):
    """AIM, equations 3 to 5, in steps of its own: tokens in the layout (tokens, clips x frames, width)."""
    network = make(tuned=True)
    block = network.clip.visual.transformer.resblocks[0]
    x = torch.randn(2 * 16, 5, 32, generator=torch.Generator().manual_seed(1))

    def adapter(which: nn.Module, given: Tensor) -> Tensor:
        return nn.functional.linear(
            nn.functional.gelu(nn.functional.linear(given, which.D_fc1.weight, which.D_fc1.bias)), which.D_fc2.weight, which.D_fc2.bias
        )

    def attend(given: Tensor) -> Tensor:  # (N, K, W)
        q, k, v = nn.functional.linear(given, block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)
        heads = [part.unflatten(-1, (2, 16)).transpose(1, 2) for part in (q, k, v)]
        shares = (heads[0] @ heads[1].transpose(-1, -2) / 4).softmax(-1)
        return block.attn.out_proj((shares @ heads[2]).transpose(1, 2).flatten(2))

    expected = x.clone()
    for clip in range(2):
        for token in range(5):
            along = x[clip * 16 : clip * 16 + 16, token][None]
            expected[clip * 16 : clip * 16 + 16, token] += adapter(block.T_Adapter, attend(block.ln_1(along)))[0]
    seen = attend(block.ln_1(expected))
    expected = expected + seen + adapter(block.S_Adapter, seen)
    inner = block.ln_2(expected)
    expected = expected + block.mlp(inner) + 0.5 * adapter(block.MLP_Adapter, inner)
    from affectkit_finecliper.model import _visual_layer

    torch.testing.assert_close(_visual_layer(block, x, 16), expected, atol=1e-5, rtol=0)


def test_only_what_is_tuned_learns_and_is_in_the_state(make: Make):
    network = make(streams=STREAMS)
    state = set(network.state_dict())
    learned = {name for name, value in network.named_parameters() if value.requires_grad}
    assert state == learned
    assert not any(value.requires_grad for name, value in network.named_parameters() if "_Adapter" not in name and name.startswith("clip."))
    assert network.tuned() == sum(value.numel() for value in network.state_dict().values())
    network.load_state_dict(network.state_dict(), strict=True)
    with pytest.raises(RuntimeError, match=r"Missing key.*temporal_embedding"):
        network.load_state_dict({name: value for name, value in network.state_dict().items() if name != "temporal_embedding"})


def test_the_clip_is_the_same_to_the_bit_after_steps(make: Make, read: Backbone):
    network = make(streams=STREAMS).train()
    optimiser = torch.optim.AdamW([value for value in network.parameters() if value.requires_grad], lr=0.01)
    for step in range(3):
        points = network(all_streams(), torch.ones(2, 3, dtype=torch.bool))
        positive, negative = network.texts(read.tokens([*TEXTS[:2], *TEXTS[1:]])).chunk(2)
        loss = nn.functional.cross_entropy(network.logits(points, positive, negative), torch.tensor([step % 2, 1]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = dict(network.clip.named_parameters())
    for name, value in read.clip.named_parameters():
        assert torch.equal(after[name], value), name
    assert network.mixer is not None
    assert all(value.grad is not None for value in network.parameters() if value.requires_grad)


@torch.no_grad()
@pytest.mark.parametrize("stream", STREAMS)
def test_each_stream_changes_the_point(stream: str, make: Make):
    network = make(tuned=True, streams=STREAMS)
    there = torch.ones(2, 3, dtype=torch.bool)
    before = network(all_streams(), there)
    after = network({**all_streams(), stream: pictures(seed=9)}, there)
    assert ((after - before).abs().amax(1) > 1e-4).all()


@torch.no_grad()
@pytest.mark.parametrize("gone", [("parsing",), ("landmarks",), ("parsing", "landmarks")])
def test_masking_a_stream_equals_leaving_it_out(gone: tuple[str, ...], make: Make):
    network = make(tuned=True, streams=STREAMS)
    there = torch.tensor([[name not in gone for name in STREAMS]] * 2)
    masked = network(all_streams(), there)
    left_out = network({name: value for name, value in all_streams().items() if name not in gone}, torch.ones(2, 3, dtype=torch.bool))
    other = network({**all_streams(), **{name: pictures(seed=7) for name in gone}}, there)
    assert torch.equal(masked, left_out)
    assert torch.equal(masked, other)
    if len(gone) == 2:
        torch.testing.assert_close(masked, network.video(all_streams()["frames"]), atol=1e-6, rtol=0)


@torch.no_grad()
def test_streams_that_are_there_count_the_same_before_anything_is_tuned(make: Make):
    network = make(streams=STREAMS)
    points = torch.stack([network.video(value) for value in all_streams().values()], 1)
    found = network(all_streams(), torch.tensor([[True, True, True], [True, False, True]]))
    torch.testing.assert_close(found, unit(torch.stack([points[0].mean(0), points[1, [0, 2]].mean(0)])), atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_logit_is_the_match_with_what_a_class_is_less_that_with_what_it_is_not(make: Make):
    network = make(negative=0.5)
    z, positive, negative = (unit(torch.randn(n, 32, generator=torch.Generator().manual_seed(n))) for n in (2, 3, 4))
    negative = negative[:3]
    scale = float(network.clip.logit_scale.exp())
    torch.testing.assert_close(network.logits(z, positive, negative), scale * (z @ positive.T) - 0.5 * scale * (z @ negative.T))
    network.scale.fill_(9.0)
    assert float(network.factor()) == 100.0


@torch.no_grad()
def test_logits_are_in_single_precision_in_every_precision(make: Make):
    network = make()
    z, positive, negative = (unit(torch.randn(3, 32, generator=torch.Generator().manual_seed(n))) for n in (2, 3, 4))
    expected = network.logits(z, positive, negative)
    with torch.autocast("cpu", torch.bfloat16):
        found = network.logits(z, positive, negative)
        assert network.video(pictures()).dtype == torch.float32
    assert torch.equal(found, expected)


@torch.no_grad()
def test_layers_that_are_computed_twice_give_the_same(make: Make):
    network = make(tuned=True)
    kept = []
    for again in (False, True):
        network.recompute = again
        network.train().zero_grad()
        with torch.enable_grad():
            network.video(pictures())[0, 0].backward()
        kept.append(network.clip.visual.transformer.resblocks[0].T_Adapter.D_fc1.weight.grad.clone())
    torch.testing.assert_close(*kept, atol=1e-7, rtol=1e-5)


def openai_keys(clip: CLIP, path: Path) -> Path:
    """A file as OpenAI names its tensors: half precision, with the sizes that its TorchScript holds beside them."""
    state = {name: value.half() for name, value in clip.state_dict().items()}
    sizes = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    torch.save(state | {name: torch.tensor(value) for name, value in sizes.items()}, path)
    return path


def test_a_file_with_the_keys_of_openai_loads(read: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its layout is that of the file ViT-B-16.pt; a small one stands for it, of the architecture that such a file is taken for."""
    path = openai_keys(read.clip, tmp_path / "ViT-B-16.pt")
    asked: list[str] = []

    def small(name: str) -> dict[str, object]:
        asked.append(name)
        return {**clip_files.tiny_config(), "quick_gelu": get_model_config(name)["quick_gelu"]}

    monkeypatch.setattr(open_clip, "get_model_config", small)
    found = clip_files.load(path, "x", openai=False)
    assert asked == ["ViT-B-16-quickgelu"]
    state = found.clip.state_dict()
    assert all(torch.equal(state[name], value.half().float()) for name, value in read.clip.state_dict().items())
    assert {
        "visual.conv1.weight",
        "visual.class_embedding",
        "visual.transformer.resblocks.0.attn.in_proj_weight",
        "text_projection",
    } <= set(state)


def activations(clip: CLIP) -> set[str]:
    blocks = (*clip.visual.transformer.resblocks, *clip.transformer.resblocks)
    return {type(block.mlp.gelu).__name__ for block in blocks}


@pytest.mark.parametrize(("openai", "config", "expected"), [(True, False, "QuickGELU"), (False, True, "QuickGELU"), (False, False, "GELU")])
def test_activations_are_those_that_the_weights_were_trained_with(openai: bool, config: bool, expected: str, tmp_path: Path):
    """OpenAI's are QuickGELU, whatever the config of the folder says; others are what it says."""
    folder = clip_files.write_tiny(tmp_path, {**clip_files.tiny_config(), "quick_gelu": config})
    clip = clip_files.load(folder, "x", openai=openai).clip
    assert activations(clip) == {expected}
    x = torch.linspace(-3, 3, 7)
    wanted = x * torch.sigmoid(1.702 * x) if expected == "QuickGELU" else nn.functional.gelu(x)
    torch.testing.assert_close(clip.visual.transformer.resblocks[0].mlp.gelu(x), wanted)


def test_the_wrong_activation_would_say_something_else(read: Backbone, tmp_path: Path):
    folder = clip_files.write_tiny(tmp_path, {**clip_files.tiny_config(), "quick_gelu": False})
    other = clip_files.load(folder, "x", openai=False)
    assert other.fingerprint == read.fingerprint  # the same numbers
    seen = pictures()[0]
    assert (unit(other.clip.encode_image(seen)) - unit(read.clip.encode_image(seen))).abs().max() > 1e-4


def without(key: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / open_clip_files.CONFIG).read_text())
        del config["model_cfg"][key]
        (folder / open_clip_files.CONFIG).write_text(json.dumps(config))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / open_clip_files.CONFIG).unlink(), "is not a folder of open_clip: it has no open_clip_config.json"),
        (lambda folder: (folder / open_clip_files.WEIGHTS[0]).unlink(), "it has no open_clip_model.safetensors"),
        (lambda folder: (folder / open_clip_files.CONFIG).write_text("{"), "is damaged"),
        (without("embed_dim"), "describes no CLIP that open_clip makes"),
    ],
)
def test_folders_that_hold_no_clip(change: Callable[[Path], None], message: str, tmp_path: Path):
    change(clip_files.write_tiny(tmp_path))
    with pytest.raises(CheckpointError, match=message):
        clip_files.load(tmp_path, "finecliper/face_dynamic", openai=False)


def test_a_clip_without_a_visual_transformer(tmp_path: Path):
    config = clip_files.tiny_config()
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None, "head_width": 16}
    clip_files.write_tiny(tmp_path, {**config, "vision_cfg": vision})
    with pytest.raises(CheckpointError, match="has no visual transformer with a class token; give a CLIP with two transformers"):
        clip_files.load(tmp_path, "x", openai=False)


def test_weights_of_another_clip_are_refused(tmp_path: Path):
    clip_files.write_tiny(tmp_path / "wide", clip_files.tiny_config(width=48))
    small = clip_files.write_tiny(tmp_path / "small")
    (tmp_path / "wide" / open_clip_files.WEIGHTS[0]).replace(small / open_clip_files.WEIGHTS[0])
    with pytest.raises(CheckpointError, match="of another shape"):
        clip_files.load(small, "x", openai=False)


def test_objects_in_a_file_are_never_built(read: Backbone, tmp_path: Path):
    path = tmp_path / "clip.pt"
    torch.save({"model": read.clip.state_dict(), "args": argparse.Namespace(rate=1)}, path)
    with pytest.raises(CheckpointError, match=r"holds Python objects beside its tensors \(argparse\.Namespace\); objects are never loaded"):
        clip_files.load(path, "x", openai=False)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"streams": ("parsing", "frames")}, "streams must begin with frames"),
        ({"streams": ("frames", "parsing", "parsing")}, "at most once"),
        ({"streams": ("frames", "depth")}, "name each of frames, parsing, landmarks"),
        ({"frames": 0}, "frames must be at least 1"),
        ({"ratio": 0.0}, "ratio in"),
        ({"negative": 1.5}, "negative in"),
    ],
)
def test_shapes_that_cannot_be(shape: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        Shape(**shape)  # type: ignore[arg-type]


@pytest.mark.slow
@torch.no_grad()
def test_the_whole_vit_b_16():
    """Full width: the parameters of CLIP ViT-B/16 and of what is tuned, one clip, and the frame that is CLIP's own."""
    torch.manual_seed(0)
    clip = CLIP(**get_model_config(clip_files.OPENAI)).eval()
    assert sum(value.numel() for value in clip.parameters()) == 149_620_737
    frames = FineCliper(copy.deepcopy(clip), Shape())
    adapters = 12 * 3 * 295_872 + 12 * 2 * 131_712
    assert frames.tuned() == adapters + 16 * 768 + 1 == 13_824_769
    mixer = 3 * 512 * 512 + 512 + 512 * 3 + 3
    assert FineCliper(copy.deepcopy(clip), Shape(streams=STREAMS)).tuned() == 13_824_769 + mixer == 14_613_252
    assert frames.frozen() == 149_620_737
    network = FineCliper(copy.deepcopy(clip), Shape(frames=2)).eval()
    seen = pictures(1, 2, 224)
    expected = unit(clip.encode_image(network._shown(seen[0])).mean(0, keepdim=True))
    torch.testing.assert_close(network.video(seen), expected, atol=1e-5, rtol=0)
