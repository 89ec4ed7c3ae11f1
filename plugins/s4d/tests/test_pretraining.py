"""Masked pre-training: exact counts of what is hidden, the loss on known patches, what the encoder sees, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from affectkit_s4d.model import standardised
from affectkit_s4d.pretraining import MaskedAutoencoder, errors, masks, patches, targets
from affectkit_s4d.trainings.pretraining import PretrainingOptions

from affectkit.api import UsageError
from affectkit.weight_files import random_network

from .conftest import SMALL, clips


def autoencoder() -> MaskedAutoencoder:
    return random_network(lambda: MaskedAutoencoder(SMALL, width=16, depth=1, heads=2))


@pytest.mark.parametrize(("share", "tokens", "wanted"), [("hidden", 800, 760), ("still_hidden", 100, 90)])
def test_as_many_tokens_are_hidden_as_published(share: str, tokens: int, wanted: int) -> None:
    """95 % of a clip, over all times and places, and 90 % of a picture; each row is drawn by itself, and each token about as often."""
    hidden = getattr(PretrainingOptions(), share)
    found = masks(64, tokens, hidden, torch.Generator().manual_seed(0))
    assert found.sum(1).tolist() == [wanted] * 64
    assert not torch.equal(found[0], found[1])
    assert (found.float().mean(0) - wanted / tokens).abs().max() < 0.2
    assert torch.equal(found, masks(64, tokens, hidden, torch.Generator().manual_seed(0)))


def test_the_published_decoder_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        state = MaskedAutoencoder().state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes["encoder_to_decoder.weight"] == (384, 768)
    assert shapes["mask_token"] == (1, 1, 384)
    assert shapes["decoder.head.weight"] == (3 * 2 * 16 * 16, 384)
    assert shapes["encoder.patch_embed.proj.weight"] == (768, 3, 2, 16, 16)
    assert shapes["encoder.blocks.11.attn.q_bias"] == (768,)
    assert "encoder.norm.weight" in shapes
    assert max(int(name.split(".")[2]) for name in shapes if name.startswith("decoder.blocks.")) == 3
    assert not any("moe_layer" in name or "positions" in name for name in shapes)


def test_patches_are_the_pixels_of_each_token() -> None:
    pixels = torch.arange(2 * 3 * 4 * 32 * 32).float().view(2, 3, 4, 32, 32)
    found = patches(pixels, 16)
    assert found.shape == (2, 8, 512, 3)
    for token, (time, row, column) in enumerate(np.ndindex(2, 2, 2)):
        cut = pixels[1, :, 2 * time : 2 * time + 2, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        torch.testing.assert_close(found[1, token], cut.flatten(1).T)
    torch.testing.assert_close(patches(pixels[:, :, 0], 16), patches(pixels[:, :, [0, 0]], 16))


def test_the_loss_on_known_patches() -> None:
    """Two tokens: one black and white by halves, one of one grey. What is to be said is worked out by hand."""
    pixels = torch.zeros(1, 3, 2, 16, 32)
    pixels[..., :8, :16] = 1.0
    pixels[..., 16:] = 0.25
    wanted = targets(pixels, 16)
    half = 0.5 / ((512 * 0.25 / 511) ** 0.5 + 1e-6)  # the unbiased standard deviation of as many zeros as ones
    torch.testing.assert_close(wanted[0, 0].view(2, 16, 16, 3)[:, :8], torch.full((2, 8, 16, 3), half))
    torch.testing.assert_close(wanted[0, 0].view(2, 16, 16, 3)[:, 8:], torch.full((2, 8, 16, 3), -half))
    assert wanted[0, 1].abs().max() < 1e-2, "a patch of one colour has nothing to be said"
    hidden = torch.tensor([[True, True]])
    assert float(errors(wanted, pixels, hidden, 16)) == 0
    assert float(errors(torch.zeros_like(wanted), pixels, hidden, 16)) == pytest.approx(half**2 / 2, rel=1e-4)
    only = torch.tensor([[True, False]])
    assert float(errors(wanted[:, :1] + 2, pixels, only, 16)) == pytest.approx(4)


def test_channels_are_normalised_by_themselves() -> None:
    """What is to be said of a patch does not change with the brightness or contrast of a channel."""
    pixels = torch.rand(1, 3, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    changed = pixels * torch.tensor([0.2, 0.9, 0.5]).view(1, 3, 1, 1, 1) + torch.tensor([0.1, 0.0, 0.4]).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(targets(pixels, 16), targets(changed, 16), atol=1e-3, rtol=0)


@pytest.mark.parametrize("picture", [False, True])
def test_what_is_hidden_is_not_seen(picture: bool) -> None:
    """Pixels of hidden tokens change nothing that is said, those of shown ones do; the answer is of the hidden tokens in their order."""
    network, x = autoencoder().eval(), clips(2)
    x = x[:, :, 0] if picture else x
    tokens = SMALL.places if picture else SMALL.tokens
    hidden = masks(2, tokens, 0.5, torch.Generator().manual_seed(1))
    with torch.inference_mode():
        said = network(x, hidden)
        assert said.shape == (2, tokens // 2, 1536)
        for shown in (False, True):
            token = int((~hidden[0] if shown else hidden[0]).nonzero()[0])
            time, place = divmod(token, SMALL.places)
            row, column = divmod(place, SMALL.side // 16)
            other = x.clone()
            frames = other[0][:, None] if picture else other[0]
            frames[:, 2 * time : 2 * time + 2, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 3.0
            assert torch.equal(network(other, hidden)[0], said[0]) != shown
            torch.testing.assert_close(network(other, hidden)[1], said[1])


def test_rows_hide_as_many_tokens() -> None:
    network = autoencoder()
    uneven = torch.zeros(2, SMALL.tokens, dtype=torch.bool)
    uneven[0, :3] = True
    for hidden in (uneven, torch.ones_like(uneven), torch.zeros_like(uneven)):
        with pytest.raises(UsageError, match="must hide as many of its 8 tokens, some and not all"):
            network(clips(2), hidden)


def test_the_loss_falls_below_that_of_knowing_nothing() -> None:
    """On stripes whose shown half tells the hidden half. Who says the mean of each patch has a loss of about 1."""
    network = autoencoder().train()
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    history = []
    for _ in range(250):
        phase = torch.rand(8, 1, 1, 1, 1, generator=generator)
        wave = (torch.arange(SMALL.side).view(1, 1, 1, 1, -1) / 8 + phase).mul(2 * torch.pi).sin() / 2 + 0.5
        pixels = wave.expand(8, 3, SMALL.frames, SMALL.side, SMALL.side)
        hidden = masks(8, SMALL.tokens, 0.5, generator)
        x = standardised(pixels.transpose(1, 2)).transpose(1, 2)
        loss = errors(network(x, hidden), pixels, hidden, 16).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert history[0] > 0.9
    assert np.mean(history[-20:]) < 0.5
