"""MHPF, the mean, and the file of fitted weights."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affectkit.builtin.fitted import Sharpening, check_sources
from affectkit.builtin.fusion import MHPFFusion, load_mhpf, save_mhpf
from affectkit.builtin.mean import Mean, masked_mean, normalise_rows
from affectkit.builtin.mhpf import MHPF
from affectkit.components import Sources
from affectkit.errors import CheckpointError, ConfigError, PluginError, UsageError
from affectkit.labels import BASIC7, BASIC8
from affectkit.weight_files import save_tensors

CPU = torch.device("cpu")
SIZES = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 8), st.integers(1, 4))  # N, M, C, H


def simplex(*shape: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=dtype).mul(2).softmax(dim=-1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[MHPF, torch.Tensor, torch.Tensor]:
    """A fusion with drawn weights in double precision, probabilities (N, M, C), and a mask (N, M, C)."""
    n, m, c, h = draw(SIZES)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    model = MHPF(m, c, h).double()
    with torch.no_grad():
        model.head_weights.copy_(torch.randn(h, m, c, generator=generator) * draw(st.sampled_from([0.5, 3.0, 30.0])))
        model.head_combine.copy_(torch.randn(h, generator=generator) * 2)
    valid = torch.rand(n, m, c, generator=generator) < draw(st.sampled_from([0.2, 0.6, 1.0]))
    return model, simplex(n, m, c, generator=generator), valid


def by_hand(model: MHPF, probs: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The definition, with loops: W from both softmaxes, renormalised over what is valid."""
    theta, combine = (p.detach().double().numpy() for p in (model.head_weights, model.head_combine))
    alpha = np.exp(combine - combine.max())
    alpha /= alpha.sum()
    w = np.exp(theta - theta.max(axis=1, keepdims=True))
    w /= w.sum(axis=1, keepdims=True)
    weights = (alpha[:, None, None] * w).sum(axis=0)
    out = np.full((probs.shape[0], probs.shape[2]), np.nan)
    for n, c in np.ndindex(out.shape):
        there = valid[n, :, c]
        if there.any():
            out[n, c] = (weights[there, c] * probs[n, there, c]).sum() / weights[there, c].sum()
    return out


class TestMHPF:
    @given(cases())
    def test_equals_the_definition(self, case: tuple[MHPF, torch.Tensor, torch.Tensor]) -> None:
        model, probs, valid = case
        np.testing.assert_allclose(model(probs, valid).detach().numpy(), by_hand(model, probs.numpy(), valid.numpy()), atol=1e-12)
        everything = np.ones(probs.shape, dtype=bool)
        np.testing.assert_allclose(model(probs).detach().numpy(), by_hand(model, probs.numpy(), everything), atol=1e-12)

    @given(cases())
    def test_lies_between_its_valid_sources(self, case: tuple[MHPF, torch.Tensor, torch.Tensor]) -> None:
        model, probs, valid = case
        fused = model(probs, valid)
        some = valid.any(dim=1)
        low = probs.where(valid, torch.inf).amin(dim=1)
        high = probs.where(valid, -torch.inf).amax(dim=1)
        assert torch.equal(fused.isnan(), ~some)
        assert bool(((fused >= low - 1e-12) & (fused <= high + 1e-12))[some].all())

    @given(cases(), st.sampled_from([float("nan"), float("inf"), -1e30, 5.0]))
    def test_what_is_not_valid_never_matters(self, case: tuple[MHPF, torch.Tensor, torch.Tensor], rubbish: float) -> None:
        model, probs, valid = case
        assert torch.equal(
            model(probs, valid).nan_to_num(nan=-1), model(probs.where(valid, torch.tensor(rubbish).double()), valid).nan_to_num(nan=-1)
        )

    @given(cases(), st.integers(0, 2**31))
    def test_a_single_valid_source_is_returned_as_it_is(self, case: tuple[MHPF, torch.Tensor, torch.Tensor], seed: int) -> None:
        model, probs, _ = case
        only = torch.randint(probs.shape[1], (len(probs),), generator=torch.Generator().manual_seed(seed))
        valid = torch.nn.functional.one_hot(only, probs.shape[1]).bool()
        assert torch.equal(model(probs, valid), probs[torch.arange(len(probs)), only])

    def test_a_single_valid_source_counts_even_where_its_weight_is_too_small_for_a_float(self) -> None:
        model = MHPF(2, 3)
        with torch.no_grad():
            model.head_weights[:, 0] = -300.0
        probs = torch.rand(4, 2, 3)
        assert model.weights()[0].max() == 0
        assert torch.equal(model(probs, torch.tensor([[True, False]] * 4)), probs[:, 0])

    @given(cases())
    def test_the_order_of_sources_does_not_matter(self, case: tuple[MHPF, torch.Tensor, torch.Tensor]) -> None:
        model, probs, valid = case
        other = MHPF(model.num_sources, model.num_classes, model.num_heads).double()
        order = torch.arange(model.num_sources - 1, -1, -1)
        other.load_state_dict({"head_weights": model.head_weights[:, order], "head_combine": model.head_combine})
        torch.testing.assert_close(other(probs[:, order], valid[:, order]), model(probs, valid), equal_nan=True)

    @given(cases())
    def test_rows_do_not_depend_on_each_other(self, case: tuple[MHPF, torch.Tensor, torch.Tensor]) -> None:
        model, probs, valid = case
        alone = torch.cat([model(probs[i : i + 1], valid[i : i + 1]) for i in range(len(probs))])
        torch.testing.assert_close(alone, model(probs, valid), equal_nan=True, rtol=0, atol=1e-14)

    def test_equals_its_collapsed_weights(self) -> None:
        """Notes on Team RAS, 7.2: six sources, eight classes, below 1e-7."""
        torch.manual_seed(0)
        model = MHPF(6, 8).double()
        probs = simplex(1000, 6, 8, generator=torch.Generator().manual_seed(1))
        collapsed = torch.einsum("mc,nmc->nc", model.weights(), probs)
        assert (model(probs) - collapsed).abs().max() < 1e-7
        assert (model(probs, torch.ones(1000, 6, dtype=torch.bool)) - collapsed).abs().max() < 1e-7
        assert (model.weights().sum(dim=0) - 1).abs().max() < 1e-12
        assert (model.float()(probs.float()) - collapsed).abs().max() < 5e-7

    def test_one_head_is_a_softmax_over_the_sources(self) -> None:
        """Version 1 of the published fusion."""
        model = MHPF(4, 8, num_heads=1)
        probs = torch.rand(5, 4, 8)
        torch.testing.assert_close(model(probs), (model.head_weights[0].softmax(dim=0) * probs).sum(dim=1))

    def test_has_the_published_parameters(self) -> None:
        model = MHPF(num_sources=6, num_classes=8, num_heads=3)
        assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {"head_weights": (3, 6, 8), "head_combine": (3,)}
        assert sum(p.numel() for p in model.parameters()) == 147
        assert all(p.min() >= 0 and p.max() < 1 for p in model.parameters())
        assert "num_sources=6, num_classes=8, num_heads=3" in repr(model)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("masked", [False, True])
    def test_keeps_the_type_of_its_input(self, dtype: torch.dtype, masked: bool) -> None:
        probs = torch.rand(5, 3, 4).to(dtype)
        fused = MHPF(3, 4)(probs, torch.ones(5, 3, dtype=torch.bool) if masked else None)
        assert (fused.dtype, fused.shape) == (dtype, (5, 4))

    def test_no_rows(self) -> None:
        assert MHPF(3, 4)(torch.empty(0, 3, 4), torch.empty(0, 3, dtype=torch.bool)).shape == (0, 4)

    def test_gradients_stay_finite(self) -> None:
        model = MHPF(3, 4)
        probs = torch.rand(6, 3, 4)
        valid = torch.rand(6, 3, 4) < 0.5
        valid[0] = False
        probs = probs.where(valid, torch.nan).requires_grad_()
        fused = model(probs, valid)
        fused[~fused.isnan()].sum().backward()
        for tensor in (model.head_weights.grad, model.head_combine.grad, probs.grad):
            assert tensor is not None
            assert tensor.isfinite().all()
        assert probs.grad is not None
        assert not probs.grad[~valid].any()

    @pytest.mark.parametrize(
        ("probs", "valid", "message"),
        [
            (torch.rand(5, 4, 8), None, r"expected probs of shape \(N, 3, 8\) \(rows, sources, classes\), found \(5, 4, 8\)"),
            (torch.rand(3, 8), None, r"expected probs of shape \(N, 3, 8\) .*, found \(3, 8\)"),
            (torch.ones(5, 3, 8, dtype=torch.int64), None, r"expected probs of a floating point type, found torch.int64"),
            (torch.rand(5, 3, 8), torch.ones(5, 4) > 0, r"expected valid of shape \(5, 3\) or \(5, 3, 8\) beside probs \(5, 3, 8\), found \(5, 4\)"),
            (torch.rand(5, 3, 8), torch.ones(3) > 0, r"expected valid of shape .* found \(3,\)"),
            (torch.rand(5, 3, 8), torch.ones(5, 3), r"expected valid to be bool, found torch.float32"),
        ],
    )  # fmt: skip
    def test_other_shapes_are_refused(self, probs: torch.Tensor, valid: torch.Tensor | None, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            MHPF(3, 8)(probs, valid)

    @pytest.mark.parametrize(("sizes", "name"), [((0, 8), "num_sources"), ((3, 0), "num_classes"), ((3, 8, 0), "num_heads")])
    def test_sizes_below_one_are_refused(self, sizes: tuple[int, ...], name: str) -> None:
        with pytest.raises(UsageError, match=f"{name} of at least 1, found 0"):
            MHPF(*sizes)


def corpus(n: int = 600, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three sources of four classes: one that knows, one that knows the first two classes, one that guesses."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(4, (n,), generator=generator)
    truth = torch.nn.functional.one_hot(targets, 4).float()
    noise = torch.randn(n, 3, 4, generator=generator)
    skill = torch.tensor([[2.0, 2, 2, 2], [4, 4, 0, 0], [0, 0, 0, 0]])
    return (noise + truth[:, None] * skill).softmax(dim=-1), targets


class TestFit:
    def test_beats_equal_weights_and_finds_who_knows(self) -> None:
        probs, targets = corpus()
        model = MHPF(3, 4)
        record = model.fit(probs, targets)
        assert record.losses[-1] < record.loss_of_mean
        assert record.losses[-1] < record.losses[0]
        weights = model.weights()
        assert bool((weights[2] < weights[0]).all())
        held_out, truth = corpus(seed=1)

        def nll(fused: torch.Tensor) -> float:
            return float(torch.nn.functional.nll_loss((fused / fused.sum(1, keepdim=True)).log(), truth))

        assert nll(model(held_out).detach()) < nll(held_out.mean(dim=1))

    def test_the_loss_is_the_negative_log_likelihood_of_normalised_rows(self) -> None:
        probs, targets = corpus(50)
        model = MHPF(3, 4)
        record = model.fit(probs, targets, epochs=3)
        fused = model(probs).detach()
        rows = fused / fused.sum(dim=1, keepdim=True)
        assert record.losses[-1] == pytest.approx(float(-rows[torch.arange(50), targets].log().mean()), abs=1e-6)
        assert len(record.losses) == 4

    def test_the_loss_of_the_paper_is_a_second_softmax(self) -> None:
        probs, targets = corpus(50)
        model = MHPF(3, 4)
        record = model.fit(probs, targets, loss="paper", epochs=3, lr=1e-4, batch_size=64, weight="balanced")
        counts = torch.bincount(targets, minlength=4)
        expected = torch.nn.functional.cross_entropy(model(probs).detach(), targets, weight=50 / (4 * counts))
        assert record.losses[-1] == pytest.approx(float(expected), abs=1e-6)

    def test_balanced_weights_are_those_of_scikit_learn(self) -> None:
        from sklearn.utils.class_weight import compute_class_weight

        from affectkit.builtin.mhpf import _class_weights

        targets = torch.tensor([0, 0, 0, 1, 3, 3])
        expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=targets.numpy())
        np.testing.assert_allclose(_class_weights(torch.bincount(targets, minlength=4), "balanced")[[0, 1, 3]], expected)
        assert _class_weights(torch.bincount(targets, minlength=4), "balanced")[2] == 0

    def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(self) -> None:
        probs, targets = corpus(80)
        state = torch.get_rng_state()
        one, two, three = MHPF(3, 4), MHPF(3, 4), MHPF(3, 4)
        torch.set_rng_state(state)
        records = [m.fit(probs, targets, epochs=5, batch_size=16, seed=seed) for m, seed in ((one, 3), (two, 3), (three, 4))]
        assert torch.equal(torch.get_rng_state(), state)
        assert records[0] == records[1] != records[2]
        assert torch.equal(one.head_weights, two.head_weights)
        assert not torch.equal(one.head_weights, three.head_weights)

    @pytest.mark.parametrize("loss", ["nll", "paper"])
    def test_learns_from_rows_with_missing_sources(self, loss: str) -> None:
        probs, targets = corpus(200)
        valid = torch.rand(200, 3, generator=torch.Generator().manual_seed(5)) < 0.6
        probs = probs.where(valid[:, :, None], torch.nan)
        model = MHPF(3, 4)
        record = model.fit(probs, targets, valid, epochs=30, loss=loss)  # type: ignore[arg-type]
        nothing = int((~valid.any(dim=1)).sum())
        assert nothing > 0
        assert (record.rows, record.left_out, sum(record.counts)) == (200 - nothing, nothing, 200 - nothing)
        assert record.losses[-1] < record.losses[0]
        assert all(p.isfinite().all() for p in model.parameters())

    def test_rows_whose_target_nobody_can_say_are_left_out(self) -> None:
        probs, targets = corpus(100)
        valid = torch.ones(100, 3, 4, dtype=torch.bool)
        valid[:, :, 3] = False
        record = MHPF(3, 4).fit(probs, targets, valid, epochs=2)
        assert record.left_out == int((targets == 3).sum())
        assert record.counts[3] == 0

    def test_the_record_is_plain_data(self) -> None:
        probs, targets = corpus(20)
        assert json.loads(json.dumps(asdict(MHPF(3, 4).fit(probs, targets, epochs=2))))["rows"] == 20

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"targets": torch.zeros(3, dtype=torch.int64)}, r"expected targets of shape \(20,\), one per row, found \(3,\)"),
            ({"targets": torch.zeros(20)}, r"expected targets to be whole numbers \(classes\), found torch.float32"),
            ({"targets": torch.full((20,), 4)}, r"expected targets in \[0, 4\), found 4 to 4"),
            ({"probs": torch.rand(20, 2, 4)}, r"expected probs of shape \(N, 3, 4\)"),
            ({"probs": torch.full((20, 3, 4), torch.nan)}, r"values that are not finite where probs are valid; mark them in valid"),
            ({"valid": torch.zeros(20, 3, dtype=torch.bool)}, r"nothing to learn from: in none of 20 rows"),
            ({"loss": "mse"}, r"has the losses nll and paper, not 'mse'"),
            ({"weight": "sqrt"}, r"takes weight='balanced' or None, found 'sqrt'"),
            ({"epochs": 0}, r"epochs, lr and batch_size greater than 0, found 0, 0.05 and None"),
            ({"lr": float("nan")}, r"epochs, lr and batch_size greater than 0, found 300, nan and None"),
        ],
    )
    def test_what_cannot_be_is_refused(self, change: dict, message: str) -> None:
        probs, targets = corpus(20)
        with pytest.raises(UsageError, match=message):
            MHPF(3, 4).fit(**({"probs": probs, "targets": targets} | change))


NAMES = ("x/face", "x/audio", "x/text")


def sources(names: tuple[str, ...] = NAMES, n: int = 5, seed: int = 0) -> Sources:
    """Sources of BASIC8, everything valid."""
    values = simplex(n, len(names), 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return Sources(BASIC8, names, values, torch.ones(values.shape, dtype=torch.bool))


def without(given: Sources, mask: torch.Tensor) -> Sources:
    """The same with NaN where the mask is off."""
    return Sources(given.labels, given.names, given.values.where(mask, torch.nan), mask)


@pytest.fixture
def fitted(tmp_path: Path) -> tuple[Path, MHPF]:
    """A file of weights for three sources."""
    model = MHPF(3, 8)
    path = tmp_path / "mhpf.safetensors"
    save_mhpf(path, model, NAMES, BASIC8, {"licence": "Apache-2.0", "source": "made by a test", "rows": 7})
    return path, model


def component(path: Path, **options: object) -> MHPFFusion:
    fusion = MHPFFusion(MHPFFusion.Options(checkpoint=str(path), **options))  # type: ignore[arg-type]
    fusion.load(CPU, torch.float32)
    return fusion


class TestMHPFComponent:
    def test_fuses_and_normalises(self, fitted: tuple[Path, MHPF]) -> None:
        path, model = fitted
        fusion = component(path)
        given = sources()
        expected = model(given.values)
        assert fusion.trained_for == NAMES
        torch.testing.assert_close(fusion.fuse(given).values[BASIC8], expected / expected.sum(dim=1, keepdim=True))
        torch.testing.assert_close(component(path, rows="published").fuse(given).values[BASIC8], expected)

    def test_an_absent_source_counts_as_not_valid(self, fitted: tuple[Path, MHPF]) -> None:
        path, model = fitted
        given = sources()
        swapped = Sources(BASIC8, ("x/text", "x/face"), given.values[:, [2, 0]], given.valid[:, [2, 0]])
        mask = torch.tensor([[True, False, True]] * 5)
        torch.testing.assert_close(component(path, rows="published").fuse(swapped).values[BASIC8], model(given.values, mask))

    def test_a_row_without_evidence_is_nan(self, fitted: tuple[Path, MHPF]) -> None:
        given = sources()
        mask = given.valid.clone()
        mask[2] = False
        for missing in ("renormalised", "published"):
            fused = component(fitted[0], missing=missing).fuse(without(given, mask)).values[BASIC8]
            assert fused[2].isnan().all()
            assert not fused[[0, 1, 3, 4]].isnan().any()

    def test_an_unsupported_class_is_nan_and_the_rest_sums_to_one(self, fitted: tuple[Path, MHPF]) -> None:
        given = sources()
        mask = given.valid.clone()
        mask[:, :, 7] = False
        fused = component(fitted[0]).fuse(without(given, mask)).values[BASIC8]
        assert fused[:, 7].isnan().all()
        torch.testing.assert_close(fused[:, :7].sum(dim=1), torch.ones(5))

    def test_published_rule_for_what_is_missing(self, fitted: tuple[Path, MHPF]) -> None:
        """As published, a missing source enters as zeros with its full weight."""
        path, model = fitted
        given = sources()
        mask = given.valid.clone()
        mask[:, 1] = False
        fused = component(path, missing="published", rows="published").fuse(without(given, mask)).values[BASIC8]
        torch.testing.assert_close(fused, model(given.values.where(mask, 0.0)))

    def test_a_source_it_was_not_fitted_for_is_an_error_with_both_lists(self, fitted: tuple[Path, MHPF]) -> None:
        message = (
            r"core/mhpf was not fitted for x/scene: its weights are for \[x/face, x/audio, x/text\], the run has \[x/face, x/scene\]; "
            r"leave those sources out, fit weights for this set of sources, or take --fusion core/mean"
        )
        with pytest.raises(ConfigError, match=message):
            component(fitted[0]).fuse(sources(("x/face", "x/scene")))
        check_sources("core/mean", None, ["anything"])

    def test_it_refuses_to_predict_unfitted(self) -> None:
        with pytest.raises(ConfigError, match=r"core/mhpf is not fitted: .*components\.core/mhpf\.checkpoint .*--fusion core/mean"):
            MHPFFusion().load(CPU, torch.float32)
        with pytest.raises(ConfigError, match=r"core/mhpf is not fitted: load its weights"):
            MHPFFusion().fuse(sources())

    def test_sources_of_another_label_set_are_an_error_with_both_lists(self, fitted: tuple[Path, MHPF]) -> None:
        given = sources()
        other = Sources(BASIC7, given.names, given.values[..., :7], given.valid[..., :7])
        for fusion in (component(fitted[0]), Mean()):
            with pytest.raises(
                PluginError, match=r"reads 'basic8' \(neutral, .*, other\), and the sources are in 'basic7' \(neutral, .*surprise\)"
            ):
                fusion.fuse(other)

    def test_the_record_of_a_run_gets_licence_and_source(self, fitted: tuple[Path, MHPF]) -> None:
        (record,) = MHPFFusion(MHPFFusion.Options(checkpoint=str(fitted[0]))).used_checkpoints().values()
        assert (record.uri, record.licence, record.source) == (str(fitted[0]), "Apache-2.0", "made by a test")
        assert MHPFFusion().used_checkpoints() == {}

    def test_the_more_sources_the_surer(self, tmp_path: Path) -> None:
        model = MHPF(3, 8)
        path = tmp_path / "sharp.safetensors"
        save_mhpf(path, model, NAMES, BASIC8, {}, Sharpening(temperature=0.8, growth=0.5))
        given = sources()
        mask = torch.ones_like(given.valid)
        mask[0, 1:] = False  # one source in the first row, two in the second, three in the others
        mask[1, 2:] = False
        given = without(given, mask)
        plain = model(given.values, given.valid)
        exponents = torch.tensor([1.0, 1.5, *[2.0] * (len(plain) - 2)]) / 0.8
        expected = torch.softmax(exponents[:, None] * plain.log(), dim=1)
        found = component(path).fuse(given).values[BASIC8]
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(component(path, rows="published").fuse(given).values[BASIC8], plain)

    def test_absent_weights(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"absent\.safetensors"):
            component(tmp_path / "absent.safetensors")


class TestFile:
    def test_comes_back_as_it_was(self, fitted: tuple[Path, MHPF]) -> None:
        path, model = fitted
        found = load_mhpf(path, BASIC8)
        assert (found.sources, found.labels, found.record["rows"]) == (NAMES, BASIC8.labels, 7)
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in found.model.state_dict().items())

    def test_the_labels_may_be_the_name_of_a_set(self, tmp_path: Path) -> None:
        path = tmp_path / "named.safetensors"
        header = {"sources": '["a/b"]', "labels": '"basic8"', "record": "{}"}
        save_tensors(path, {"head_weights": torch.zeros(2, 1, 8), "head_combine": torch.zeros(2)}, header)
        assert load_mhpf(path, BASIC8).labels == BASIC8.labels

    @pytest.mark.parametrize(
        ("shapes", "header", "message"),
        [
            (((3, 3, 8), (3,)), {"labels": json.dumps(BASIC7.labels)}, r"fitted for the labels \['neutral', .*'surprise'\], expected \['neutral', .*'other'\]"),
            (((3, 3, 7), (3,)), {}, r"expected head_weights \(H, M, 8\) and head_combine \(H,\), found \(3, 3, 7\) and \(3,\)"),
            (((3, 3, 8), (2,)), {}, r"expected head_weights \(H, M, 8\) and head_combine \(H,\), found \(3, 3, 8\) and \(2,\)"),
            (((3, 2, 8), (3,)), {}, r"head_weights has 2 sources, and its header names \['x/face', 'x/audio', 'x/text'\]"),
            (((3, 3, 8), (3,)), {"sources": "nonsense"}, r"its header is not JSON"),
        ],
    )  # fmt: skip
    def test_files_that_do_not_fit_are_refused(
        self, tmp_path: Path, shapes: tuple[tuple[int, ...], ...], header: dict[str, str], message: str
    ) -> None:
        path = tmp_path / "odd.safetensors"
        full = {"sources": json.dumps(NAMES), "labels": json.dumps(BASIC8.labels), "record": "{}"} | header
        save_tensors(path, {"head_weights": torch.zeros(shapes[0]), "head_combine": torch.zeros(shapes[1])}, full)
        with pytest.raises(CheckpointError, match=rf"odd\.safetensors.*{message}"):
            load_mhpf(path, BASIC8)

    def test_another_kind_of_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "other.safetensors"
        save_tensors(path, {"weight": torch.zeros(2)}, {})
        with pytest.raises(
            CheckpointError, match=r"expected the tensors \['head_combine', 'head_weights'\] .* found the tensors \['weight'\]"
        ):
            load_mhpf(path, BASIC8)
        path.write_bytes(b"no tensors at all")
        with pytest.raises(CheckpointError, match=r"other\.safetensors is damaged"):
            load_mhpf(path, BASIC8)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"temperature": 0}', "a temperature greater than 0 and a growth of 0 or more, found 0.0 and 0.0"),
            ('{"growth": -0.5}', "found 1.0 and -0.5"),
            ('{"sharper": 2}', r"sharper: unknown key\. Known: growth, temperature"),
            ('{"growth": "much"}', "growth: expected a number, found 'much'"),
            ("[]", "'sharpening' in its header is no JSON object"),
            ("[", "'sharpening' in its header is no JSON object"),
        ],
    )
    def test_sharpening_that_cannot_be_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "odd.safetensors"
        header = {"sources": json.dumps(NAMES), "labels": json.dumps(BASIC8.labels), "record": "{}", "sharpening": text}
        save_tensors(path, {"head_weights": torch.zeros(3, 3, 8), "head_combine": torch.zeros(3)}, header)
        with pytest.raises(CheckpointError, match=rf"odd\.safetensors: .*{message}"):
            load_mhpf(path, BASIC8)

    def test_weights_that_are_not_finite_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "nan.safetensors"
        header = {"sources": json.dumps(NAMES), "labels": json.dumps(BASIC8.labels), "record": "{}"}
        save_tensors(path, {"head_weights": torch.full((3, 3, 8), torch.nan), "head_combine": torch.zeros(3)}, header)
        with pytest.raises(CheckpointError, match=r"head_weights holds numbers that are not finite"):
            load_mhpf(path, BASIC8)

    @pytest.mark.parametrize("names", [("a/b",), ("a/b", "a/b", "a/c")])
    def test_saving_checks_the_sources(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        with pytest.raises(ConfigError, match=r"fuses 3 sources of 8 classes, found . sources \[a/b"):
            save_mhpf(tmp_path / "x.safetensors", MHPF(3, 8), names, BASIC8, {})


class TestMean:
    @settings(max_examples=50)
    @given(st.integers(0, 2**31))
    def test_is_the_mean_over_valid_sources(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        given_ = sources(seed=seed)
        masked = without(given_, torch.rand(given_.values.shape, generator=generator) < 0.7)
        fused = Mean().fuse(masked).values[BASIC8]
        means = masked.values.nanmean(dim=1)
        torch.testing.assert_close(fused, means / means.nansum(dim=1, keepdim=True), equal_nan=True)

    def test_takes_any_sources(self) -> None:
        assert Mean().trained_for is None
        torch.testing.assert_close(Mean().fuse(sources(("a/b",))).values[BASIC8], sources(("a/b",)).values[:, 0])

    def test_weights(self) -> None:
        values = torch.tensor([[[1.0], [4.0]], [[torch.nan], [4.0]]])
        out = masked_mean(values, ~values.isnan(), torch.tensor([2.0, 1.0]))
        torch.testing.assert_close(out, torch.tensor([[2.0], [4.0]]))

    def test_rows_without_mass_say_nothing(self) -> None:
        rows = normalise_rows(torch.tensor([[0.0, 0.0], [torch.nan, torch.nan], [torch.nan, 2.0]]))
        assert rows[:2].isnan().all()
        assert rows[2, 1] == 1


def test_no_torch_at_import() -> None:
    """The registry imports these modules; only loading may bring torch."""
    import subprocess
    import sys

    modules = [
        "affectkit.timeline",
        "affectkit.planner",
        *(f"affectkit.builtin.{m}" for m in ("fusion", "mean", "ppa", "pfsa", "direct", "blend")),
    ]
    code = f"import sys, {', '.join(modules)}; print([m for m in ('torch', 'pandas', 'av', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_subset_of_sources_is_a_distribution(fitted: tuple[Path, MHPF]) -> None:
    fusion = component(fitted[0])
    for size in (1, 2, 3):
        for names in itertools.combinations(NAMES, size):
            torch.testing.assert_close(fusion.fuse(sources(names)).values[BASIC8].sum(dim=1), torch.ones(5))
