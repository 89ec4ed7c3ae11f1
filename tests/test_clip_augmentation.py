"""Clips of a data set: how they are changed and mixed, one draw per clip."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from affectkit.api import ConfigError
from affectkit.clip_augmentation import Augmentation, Mixing, augment, plain


def gradient(frames: int) -> np.ndarray:
    """The same soft picture in each frame, (T, 40, 40, 3) uint8."""
    rows, columns = np.mgrid[0:40, 0:40]
    return np.stack([np.stack([rows * 5, columns * 5, (rows + columns) * 2], -1).astype(np.uint8)] * frames)


@pytest.mark.parametrize("options", [{"crop": 0.3}, {"turn": 20.0}, {"colour": 0.5, "hue": 0.2}, {"operations": 2}, {"erase": 1.0}])
def test_one_draw_is_for_all_frames_of_a_clip(options: dict[str, Any]) -> None:
    transform = Augmentation(**{"crop": 1.0, **options}).transform(24)
    before = torch.get_rng_state()
    found = [augment(transform, gradient(5), {}, seed)[0] for seed in range(12)]
    assert torch.equal(torch.get_rng_state(), before)
    for clip in found:
        assert clip.shape == (5, 3, 24, 24)
        assert all(torch.equal(clip[0], frame) for frame in clip)
    assert len({clip.numpy().tobytes() for clip in found}) > 6
    assert torch.equal(augment(transform, gradient(5), {}, 3)[0], found[3])


def test_maps_move_with_the_frames_and_keep_their_colours() -> None:
    moving = Augmentation(crop=0.4, turn=15).transform(40)
    for seed in range(8):
        frames, maps = augment(moving, gradient(2), {"landmarks": gradient(2)}, seed)
        assert (frames.float() - maps["landmarks"].float()).abs()[..., 8:-8, 8:-8].median() <= 4  # the nearest pixel instead of a mean
    mirrored = Augmentation(crop=1.0, flip=1.0, colour=1.0, hue=0.5, erase=1.0).transform(40)
    frames, maps = augment(mirrored, gradient(2), {"landmarks": gradient(2)}, 0)
    assert torch.equal(maps["landmarks"], torch.from_numpy(gradient(2)).permute(0, 3, 1, 2).flip(-1))
    assert not torch.equal(frames, maps["landmarks"])


def test_nothing_random_is_a_resize() -> None:
    assert torch.equal(plain(gradient(2), 40), torch.from_numpy(gradient(2)).permute(0, 3, 1, 2))
    small = plain(gradient(4).reshape(2, 2, 40, 40, 3), 20)
    assert small.shape == (2, 2, 3, 20, 20)
    expected = cv2.resize(gradient(1)[0], (20, 20), interpolation=cv2.INTER_AREA)
    assert np.abs(small[0, 0].permute(1, 2, 0).numpy().astype(int) - expected).max() <= 4


@pytest.mark.parametrize("wrong", [{"crop": 0}, {"flip": 2}, {"hue": 0.6}, {"ratio": 0.5}, {"magnitude": 31}])
def test_an_augmentation_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"crop must be in \(0, 1\]"):
        Augmentation(**wrong)


def test_mixup_adds_pictures_and_labels_in_the_same_shares() -> None:
    pictures = {"frames": torch.rand(4, 3, 3, 8, 8), "landmarks": torch.rand(4, 3, 3, 8, 8)}
    truth = np.array([0, 1, 2, 2])
    for seed in range(5):
        mixed, target = Mixing(mixup=0.8).apply(pictures, truth, 3, np.random.default_rng(seed))
        share = target[0, 0]  # the first row is the only one of its class, and lies opposite one of another
        assert 0 <= share <= 1
        assert torch.allclose(target.sum(1), torch.ones(4))
        for name, before in pictures.items():
            assert torch.allclose(mixed[name], share * before + (1 - share) * before.flip(0), atol=1e-6)


def test_cutmix_takes_the_same_box_of_all_frames_and_counts_its_pixels() -> None:
    rows = torch.arange(4.0)[:, None, None, None, None].expand(4, 3, 3, 20, 20)
    shares = set()
    for seed in range(20):
        mixed, target = Mixing(cutmix=1.0).apply({"frames": rows, "landmarks": rows}, np.arange(4), 4, np.random.default_rng(seed))
        assert torch.equal(mixed["frames"], mixed["landmarks"])
        own = mixed["frames"][0] == 0
        assert torch.equal(own[0, 0], own[2, 1])
        assert float(own.float().mean()) == pytest.approx(float(target[0, 0]), abs=1e-6)
        assert target[0, 3] == pytest.approx(1 - target[0, 0])
        box = (~own[0, 0]).nonzero()
        if len(box):
            height, width = (box.max(0).values - box.min(0).values + 1).tolist()
            assert height * width == len(box)
        shares.add(round(float(target[0, 0]), 3))
    assert len(shares) > 10


def test_smoothing_is_that_of_the_cross_entropy() -> None:
    truth, logits = np.array([2, 0, 1]), torch.randn(3, 4)
    _, target = Mixing(smoothing=0.1).apply({"frames": torch.rand(3, 1, 3, 4, 4)}, truth, 4, np.random.default_rng(0))
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(truth), label_smoothing=0.1)
    assert torch.nn.functional.cross_entropy(logits, target) == pytest.approx(float(expected))


def test_a_chance_of_mixing() -> None:
    random, pictures = np.random.default_rng(0), {"frames": torch.rand(2, 1, 3, 4, 4)}
    untouched = sum(
        torch.equal(Mixing(mixup=1.0, chance=0.25).apply(pictures, np.arange(2), 2, random)[0]["frames"], pictures["frames"])
        for _ in range(400)
    )
    assert 260 < untouched < 340
    with pytest.raises(ConfigError, match="mixup and cutmix must not be negative"):
        Mixing(mixup=-1)
