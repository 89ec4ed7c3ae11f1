"""The fusions beside MHPF and the mean: their networks, components and files; the tables of AVCER; goldens of the published versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affectkit.builtin.avcer import TABLES, table
from affectkit.builtin.class_weights import ConvexFusion, DirichletFusion, VersionFusion, save_weights
from affectkit.builtin.fitted import FittedFusion, Sharpening, save_fitted
from affectkit.builtin.fusion import MHPFFusion
from affectkit.builtin.gated import GatedFusion, fit_gated, load_gated, save_gated
from affectkit.builtin.ppa import EMPHASIS, MASK, PAIRS, ppa
from affectkit.builtin.simplex import convex_fit, fuse_rows
from affectkit.builtin.weighting import VERSIONS, ClassWeights, Gated, Weighting
from affectkit.components import Sources
from affectkit.errors import CheckpointError, ConfigError, UsageError
from affectkit.labels import BASIC7, BASIC8
from affectkit.options import build
from affectkit.weight_files import metadata, save_tensors
from tests.test_goldens import check

CPU = torch.device("cpu")
NAMES = ("x/face", "x/audio", "x/text")


def simplex(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(2).softmax(dim=-1)


def sources(values: torch.Tensor | None = None, valid: torch.Tensor | None = None, **more: Any) -> Sources:
    values = simplex(5, 3, 8).float() if values is None else values
    valid = torch.ones(values.shape, dtype=torch.bool) if valid is None else valid
    return Sources(BASIC8, NAMES[: values.shape[1]], values.where(valid, torch.nan), valid, **more)


def made(kind: type[Weighting], sources: int, classes: int, seed: int) -> Weighting:
    model = kind(sources, classes).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.rand(value.shape, generator=generator) * (3 if name != "temperature" else 1))
    return model


KINDS = [ClassWeights, *VERSIONS.values()]


class TestWeighting:
    @pytest.mark.parametrize("kind", KINDS)
    @given(
        seed=st.integers(0, 2**31),
        sizes=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6)),
        share=st.sampled_from([0.3, 0.7, 1.0]),
    )
    def test_equals_the_definition(self, kind: type[Weighting], seed: int, sizes: tuple[int, int, int], share: float) -> None:
        n, m, c = sizes
        model, probs = made(kind, m, c, seed), simplex(n, m, c, seed=seed)
        valid = torch.rand(n, m, c, generator=torch.Generator().manual_seed(seed)) < share
        weights = model.by_class().detach().numpy()
        expected = np.full((n, c), np.nan)
        for row, column in np.ndindex(n, c):
            there = valid[row, :, column].numpy()
            if there.any():
                mine = weights[there, column]
                expected[row, column] = (mine * probs[row, there, column].numpy()).sum() / mine.sum() * weights[:, column].sum()
        np.testing.assert_allclose(model(probs, valid).detach().numpy(), expected, atol=1e-6)
        np.testing.assert_allclose(model(probs).detach().numpy(), np.einsum("mc,nmc->nc", weights, probs.numpy()), atol=1e-6)

    @pytest.mark.parametrize("kind", KINDS[1:])
    def test_columns_of_the_published_versions_sum_to_one(self, kind: type[Weighting]) -> None:
        torch.testing.assert_close(kind(4, 8).by_class().sum(dim=0), torch.ones(8))

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_is_not_valid_never_matters_and_alone_a_source_is_returned(self, kind: type[Weighting]) -> None:
        model, probs = made(kind, 3, 4, 1), simplex(6, 3, 4)
        if kind is ClassWeights:
            model.load_state_dict({"weights": model.by_class() / model.by_class().sum(dim=0)})
        valid = torch.zeros(6, 3, 4, dtype=torch.bool)
        valid[:, 1] = True
        torch.testing.assert_close(model(probs.where(valid, torch.nan), valid).detach(), probs[:, 1], atol=1e-6, rtol=1e-6)
        assert model(probs, torch.zeros_like(valid)).isnan().all()

    def test_a_weight_of_nothing_says_nothing(self) -> None:
        model = ClassWeights(2, 2)
        model.load_state_dict({"weights": torch.tensor([[1.0, 0.0], [0.0, 0.0]])})
        fused = model(torch.full((1, 2, 2), 0.5), torch.ones(1, 2, 2, dtype=torch.bool))
        assert fused[0, 0] == 0.5
        assert fused[0, 1].isnan()

    @pytest.mark.parametrize(
        ("probs", "valid", "message"),
        [
            (torch.rand(5, 4, 8), None, r"ClassWeights expected probs of shape \(N, 3, 8\) \(rows, sources, classes\), found \(5, 4, 8\)"),
            (torch.ones(5, 3, 8, dtype=torch.int64), None, r"expected probs of a floating point type, found torch.int64"),
            (torch.rand(5, 3, 8), torch.ones(5, 3) > 0, r"expected valid to be bool of shape \(5, 3, 8\), as probs, found torch.bool of \(5, 3\)"),
        ],
    )  # fmt: skip
    def test_other_shapes_are_refused(self, probs: torch.Tensor, valid: torch.Tensor | None, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            ClassWeights(3, 8)(probs, valid)

    def test_sizes_below_one_are_refused(self) -> None:
        with pytest.raises(UsageError, match="ProbabilityFusionV4 needs num_classes of at least 1, found 0"):
            VERSIONS["v4"](3, 0)
        with pytest.raises(UsageError, match="Gated needs num_sources, num_classes and hidden of at least 1"):
            Gated(3, 8, hidden=0)


@pytest.mark.parametrize("stem", [f"ras_probability_fusion_{v}" for v in ("v1", "v3", "v4", "v5", "v5_clamped")], indirect=True)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_goldens_of_the_published_versions(golden: Any, stem: Path, masked: bool, dtype: torch.dtype) -> None:
    """State dictionaries with the published keys, loaded strictly."""
    meta, ref = golden.load(stem)
    probs = torch.stack([torch.from_numpy(golden.make_input(rule, meta["salt"])) for rule in meta["inputs"]], dim=1).to(dtype)
    state = {key: torch.from_numpy(np.array(value)) for key, value in golden.fill(meta["state_dict"], meta["rules"], meta["salt"]).items()}
    model = VERSIONS[meta["name"].split("_")[3]](probs.shape[1], probs.shape[2])
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        fused = model(probs, torch.ones(probs.shape, dtype=torch.bool) if masked else None)
    assert fused.dtype == dtype
    check(golden, meta, ref, {"fused": fused.numpy()})


class TestGated:
    @given(seed=st.integers(0, 2**31), share=st.sampled_from([0.3, 0.7, 1.0]))
    def test_weights_of_a_row_are_shared_among_what_is_there(self, seed: int, share: float) -> None:
        torch.manual_seed(seed)
        model = Gated(3, 4, 2)
        with torch.no_grad():
            for value in (model.theta, model.there, model.bias, model.out):
                value.normal_()
        probs, valid = simplex(6, 3, 4, seed=seed).float(), torch.rand(6, 3, 4) < share
        quality = torch.randn(6, 3, 2)
        quality[0] = torch.nan
        weights = model.row_weights(probs, valid, quality)
        some = valid.any(dim=1)
        torch.testing.assert_close(weights.nan_to_num(0).sum(dim=1), some.float(), atol=1e-5, rtol=0)
        assert bool((weights.nan_to_num(0)[~valid] == 0).all())
        fused = model(probs, valid, quality)
        assert torch.equal(fused.isnan(), ~some)
        rubbish = model(probs.where(valid, torch.nan), valid, quality)
        torch.testing.assert_close(rubbish, fused, equal_nan=True)
        alone = torch.cat([model(probs[i : i + 1], valid[i : i + 1], quality[i : i + 1]) for i in range(6)])
        torch.testing.assert_close(alone, fused, equal_nan=True, atol=1e-6, rtol=1e-5)

    def test_begins_as_the_mean(self) -> None:
        probs = simplex(5, 3, 4).float()
        torch.testing.assert_close(Gated(3, 4)(probs), probs.mean(dim=1))

    def test_learns_to_trust_a_source_where_its_quality_is_good(self) -> None:
        """Two sources that know, each in the rows where its figure is high: no fixed weights can tell."""
        random = np.random.default_rng(0)
        truth = random.integers(0, 3, 800)
        good = random.integers(0, 2, 800)
        skill = np.stack([good, 1 - good], axis=1) * 3.0
        powers = np.exp(random.normal(size=(800, 2, 3)) + skill[:, :, None] * np.eye(3)[truth][:, None])
        values = powers / powers.sum(axis=2, keepdims=True)
        quality = np.stack([good, 1 - good], axis=1)[:, :, None] * 50.0 + 100 + random.normal(size=(800, 2, 1))
        model = fit_gated(values[:500], truth[:500], quality[:500], epochs=150, decay=0.0)
        held, figures = torch.from_numpy(values[500:]).float(), torch.from_numpy(quality[500:]).float()
        right = (model(held, None, figures).argmax(dim=1).numpy() == truth[500:]).mean()
        fixed = convex_fit(values[:500], truth[:500]).weights
        assert right > (fuse_rows(fixed, values[500:]).argmax(axis=1) == truth[500:]).mean() + 0.02
        weights = model.row_weights(held, None, figures).mean(dim=2).numpy()
        assert weights[good[500:] == 1, 0].mean() > weights[good[500:] == 0, 0].mean() + 0.2

    def test_learns_from_rows_with_missing_sources_and_leaves_random_numbers_alone(self) -> None:
        random = np.random.default_rng(1)
        truth = random.integers(0, 3, 200)
        values = random.dirichlet(np.ones(3), (200, 2)) + np.eye(3)[truth][:, None] * [[[0.5], [0.0]]]
        values /= values.sum(axis=2, keepdims=True)
        values[:40, 0] = np.nan
        state = torch.get_rng_state()
        one, two = fit_gated(values, truth, epochs=20, seed=3), fit_gated(values, truth, epochs=20, seed=3)
        assert torch.equal(torch.get_rng_state(), state)
        for name, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[name])
        start = np.array([[0.9, 0.9, 0.9], [0.1, 0.1, 0.1]])
        kept = fit_gated(values, truth, start=start, epochs=3)
        np.testing.assert_allclose(kept.theta.softmax(dim=0).numpy(), start, atol=1e-6)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"epochs": 0}, "fit_gated needs epochs of at least 1"),
            ({"values": np.full((4, 2, 3), np.nan)}, "nothing to learn from: in none of 4 rows"),
            ({"quality": np.zeros((4, 3, 1))}, r"expected quality \(N, M, Q\) beside values \(4, 2, 3\), found \(4, 3, 1\)"),
        ],
    )
    def test_what_cannot_be_is_refused(self, change: dict[str, Any], message: str) -> None:
        given = {"values": np.full((4, 2, 3), 1 / 3), "truth": np.array([0, 1, 2, 0])}
        with pytest.raises(UsageError, match=message):
            fit_gated(**(given | change))
        with pytest.raises(UsageError, match=r"Gated expected quality of shape \(4, 2, 1\)"):
            Gated(2, 3, 1)(torch.rand(4, 2, 3), None, torch.rand(4, 2, 2))


def write(folder: Path, component: type[FittedFusion], **more: Any) -> Path:
    path = folder / "weights.safetensors"
    fusion = component(component.Options(**more)) if more else component()
    fusion.save(path, fusion.made(3), NAMES, {"licence": "CC0-1.0", "source": "made by a test"})
    return path


FITTED = [ConvexFusion, DirichletFusion, GatedFusion, MHPFFusion, VersionFusion]


class TestComponents:
    @pytest.mark.parametrize("component", FITTED)
    def test_fuses_normalises_and_knows_its_sources(self, component: type[FittedFusion], tmp_path: Path) -> None:
        path = write(tmp_path, component)
        fusion = component(component.Options(checkpoint=str(path)))
        with pytest.raises(ConfigError, match=f"core/{fusion.name} is not fitted: load its weights before fusing"):
            fusion.fuse(sources())
        fusion.load(CPU, torch.float32)
        assert fusion.trained_for == NAMES
        given_sources = sources()
        fused = fusion.fuse(given_sources).values[BASIC8]
        torch.testing.assert_close(fused.sum(dim=1), torch.ones(5))
        if component in (ConvexFusion, DirichletFusion, GatedFusion):  # equal weights at first
            torch.testing.assert_close(fused, given_sources.values.mean(dim=1))
        mask = torch.ones(5, 3, 8, dtype=torch.bool)
        mask[2] = False
        mask[:, :, 7] = False
        holes = fusion.fuse(sources(valid=mask)).values[BASIC8]
        assert holes[2].isnan().all()
        assert holes[:, 7].isnan().all()
        assert not holes[[0, 1, 3, 4]][:, :7].isnan().any()
        fewer = Sources(BASIC8, NAMES[1:2], given_sources.values[:, 1:2], given_sources.valid[:, 1:2])
        torch.testing.assert_close(fusion.fuse(fewer).values[BASIC8], given_sources.values[:, 1], atol=1e-5, rtol=1e-5)
        used = fusion.used_checkpoints()["given"]
        assert (used.licence, used.source) == ("CC0-1.0", "made by a test")
        assert json.loads(metadata(path)["fusion"]) == f"core/{fusion.name}"
        strange = Sources(BASIC8, ("x/other",), given_sources.values[:, :1], given_sources.valid[:, :1])
        with pytest.raises(ConfigError, match=f"core/{fusion.name} was not fitted for x/other"):
            fusion.fuse(strange)

    @pytest.mark.parametrize("component", FITTED)
    def test_without_weights_it_says_what_to_do(self, component: type[FittedFusion], tmp_path: Path) -> None:
        fusion = component()
        with pytest.raises(
            ConfigError, match=rf"core/{fusion.name} is not fitted: .*components\.core/{fusion.name}\.checkpoint .*--fusion core/mean"
        ):
            fusion.load(CPU, torch.float32)
        with pytest.raises(CheckpointError, match="has random weights only for the sources of a recipe"):
            fusion.write_random("given", tmp_path)
        again = component(component.Options(checkpoint=str(fusion.write_random("given", tmp_path, NAMES))))
        again.load(CPU, torch.float32)
        assert again.trained_for == NAMES

    @pytest.mark.parametrize("component", FITTED)
    def test_files_of_another_make_are_refused(self, component: type[FittedFusion], tmp_path: Path) -> None:
        path = tmp_path / "x.safetensors"
        fusion = component(component.Options(checkpoint=str(path)))
        save_tensors(path, {"a": torch.zeros(1)}, {"sources": "[]", "labels": "[]", "record": "{}"})
        with pytest.raises(CheckpointError, match=r"expected the tensors .* found the tensors .'a'.*; is it the right file"):
            fusion.load(CPU, torch.float32)
        save_tensors(path, {"a": torch.zeros(1)}, {"fusion": '"core/other"'})
        with pytest.raises(CheckpointError, match='; it says that it is of "core/other"; is it the right file'):
            fusion.load(CPU, torch.float32)
        model = fusion.made(3)
        header = {"sources": json.dumps(NAMES), "labels": json.dumps(BASIC7.labels), "record": "{}", "quality": "[[],[],[]]"}
        save_tensors(path, dict(model.state_dict()), header)
        with pytest.raises(CheckpointError, match=r"was fitted for the labels .*; fit it for these"):
            fusion.load(CPU, torch.float32)
        header |= {"labels": json.dumps(BASIC8.labels), "sources": json.dumps(NAMES[:2])}
        save_tensors(path, dict(model.state_dict()), header)
        with pytest.raises(CheckpointError, match=r"has 3 sources, and its header names .*; fit it anew"):
            fusion.load(CPU, torch.float32)

    def test_sharpening_travels_with_the_weights(self, tmp_path: Path) -> None:
        path = tmp_path / "x.safetensors"
        save_weights(path, "core/convex", torch.full((3, 8), 1 / 3), NAMES, BASIC8, {}, Sharpening(0.5))
        fusion = ConvexFusion(ConvexFusion.Options(checkpoint=str(path)))
        fusion.load(CPU, torch.float32)
        mean = sources().values.mean(dim=1)
        torch.testing.assert_close(fusion.fuse(sources()).values[BASIC8], mean**2 / (mean**2).sum(dim=1, keepdim=True))

    def test_shapes_of_weights_are_checked(self, tmp_path: Path) -> None:
        path = tmp_path / "x.safetensors"
        header = {"sources": json.dumps(NAMES), "labels": json.dumps(BASIC8.labels), "record": "{}"}
        save_tensors(path, {"weights": torch.full((3, 8), -0.1)}, header)
        with pytest.raises(CheckpointError, match=r"expected weights \(M, 8\) of 0 or more, found \(3, 8\); fit it anew"):
            ConvexFusion(ConvexFusion.Options(checkpoint=str(path))).load(CPU, torch.float32)
        save_tensors(path, {"query": torch.zeros(7, 1), "keys": torch.zeros(3, 8)}, header)
        with pytest.raises(CheckpointError, match=r"expected \{'query': \(8, 1\), 'keys': \(3, 8\)\} for 3 sources of 8 labels"):
            VersionFusion(VersionFusion.Options(checkpoint=str(path), version="v3")).load(CPU, torch.float32)
        save_tensors(path, {"query": torch.zeros(8, 1), "keys": torch.zeros(3, 8)}, header)
        VersionFusion(VersionFusion.Options(checkpoint=str(path))).load(CPU, torch.float32)
        with pytest.raises(
            CheckpointError, match=r"expected the tensors \['res_weight', 'weights'\] .* found the tensors \['keys', 'query'\]"
        ):
            VersionFusion(VersionFusion.Options(checkpoint=str(path), version="v4")).load(CPU, torch.float32)
        save_tensors(path, {"weights": torch.tensor(0.5)}, header)
        with pytest.raises(CheckpointError, match="its weights has 0 sources, and its header names"):
            VersionFusion(VersionFusion.Options(checkpoint=str(path))).load(CPU, torch.float32)
        with pytest.raises(ConfigError, match="the network fuses 3 sources of 8 classes, found 2 sources"):
            save_fitted(path, "core/convex", ClassWeights(3, 8), NAMES[:2], BASIC8, {})

    @pytest.mark.parametrize("record", ["[", "[]", '"text"'])
    def test_a_record_that_is_none_is_refused(self, tmp_path: Path, record: str) -> None:
        path = tmp_path / "x.safetensors"
        header = {"sources": json.dumps(NAMES), "labels": json.dumps(BASIC8.labels), "record": record}
        save_tensors(path, {"weights": torch.full((3, 8), 1 / 3)}, header)
        with pytest.raises(CheckpointError, match=r"x\.safetensors: 'record' in its header is no JSON object"):
            ConvexFusion(ConvexFusion.Options(checkpoint=str(path))).used_checkpoints()

    def test_a_file_of_torch_is_not_called_damaged(self, tmp_path: Path) -> None:
        torch.save({"weights": torch.zeros(3, 8)}, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=r"x\.pt is a file of torch, expected safetensors with a header"):
            ConvexFusion(ConvexFusion.Options(checkpoint=str(tmp_path / "x.pt"))).load(CPU, torch.float32)

    def test_quality_reaches_the_gate_by_its_name(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        model = Gated(3, 8, 2)
        with torch.no_grad():
            model.out.normal_()
        path = tmp_path / "x.safetensors"
        with pytest.raises(UsageError, match="the network takes 2 quality figures of each of 3 sources"):
            save_gated(path, model, NAMES, [("a", "b", "c"), (), ()], BASIC8, {})
        save_gated(path, model, NAMES, [("side", "blur"), (), ("words",)], BASIC8, {})
        fusion = GatedFusion(GatedFusion.Options(checkpoint=str(path), rows="published"))
        fusion.load(CPU, torch.float32)
        side, words = torch.rand(5), torch.rand(5)
        given_sources = sources(quality={"x/face:side": side, "x/text:words": words, "x/text:side": side})
        quality = torch.full((5, 3, 2), torch.nan)
        quality[:, 0, 0], quality[:, 2, 0] = side, words
        expected = model(given_sources.values, given_sources.valid, quality)
        torch.testing.assert_close(fusion.fuse(given_sources).values[BASIC8], expected)
        assert not torch.equal(fusion.fuse(sources()).values[BASIC8], expected)
        header = metadata(path) | {"quality": "[[1], [], []]"}
        save_tensors(path, dict(model.state_dict()), header)
        with pytest.raises(CheckpointError, match="its header must name the quality figures of 3 sources"):
            load_gated(path, BASIC8)
        save_tensors(path, dict(model.state_dict()) | {"bias": torch.zeros(3, 5)}, header | {"quality": "[[], [], []]"})
        with pytest.raises(CheckpointError, match=r"expected theta \(M, C\), into .* with C = 8, found"):
            load_gated(path, BASIC8)


class TestAvcer:
    def test_columns_sum_to_one_but_the_copied_one(self) -> None:
        for name in TABLES:
            np.testing.assert_allclose(table(name).sum(axis=0), 1, atol=2e-8)
            printed = table(name, parity=True).sum(axis=0)
            wrong = np.flatnonzero(np.abs(printed - 1) > 1e-6)
            assert [BASIC7.labels[c] for c in wrong] == (["disgust"] if name == "avcer7" else [])

    def test_parity_keeps_the_copied_weight(self) -> None:
        anger, disgust = BASIC7.index("anger"), BASIC7.index("disgust")
        printed = table("avcer7", parity=True)
        assert printed[0, disgust] == printed[0, anger] == 0.2579578
        assert table("avcer7")[0, disgust] == pytest.approx(1 - 0.62411413 - 0.17148297)

    def test_the_component_is_the_published_sum(self) -> None:
        """q = sum over m of p_m * W1[m] * W2[m] (AVCER, src/get_pred_av.py), without the copy of a weight."""
        given_sources = sources()
        options = {"table": "avcer8", "sources": list(NAMES), "level": "double", "rows": "published"}
        fusion = DirichletFusion(build(DirichletFusion.Options, options))
        assert fusion.used_checkpoints() == {}
        fusion.load(CPU, torch.float32)
        first = np.array(TABLES["avcer8"].single) * np.array(TABLES["avcer8"].double)[:, None]
        expected = (given_sources.values[:, :, :7].double().numpy() * first).sum(axis=1)
        fused = fusion.fuse(given_sources).values[BASIC8]
        np.testing.assert_allclose(fused[:, :7], expected, atol=1e-6)
        assert fused[:, 7].isnan().all()

    def test_its_rules_are_those_of_core_ppa(self) -> None:
        """Rule 1 and rule 2 in their closed forms, and both of them, as AVCER also runs them."""
        q = simplex(50, 8).numpy()
        masked = np.where(q > MASK, q, 0)
        emphasis = {BASIC8.index(label): weight for label, weight in EMPHASIS.items()}
        for k, (i, j) in enumerate(PAIRS):
            total = emphasis[i] + emphasis[j]
            one = (emphasis[i] * q[:, i] + emphasis[j] * q[:, j]) / total
            both = (emphasis[i] * masked[:, i] + emphasis[j] * masked[:, j]) / total
            given_rows = torch.from_numpy(q)
            np.testing.assert_allclose(ppa(given_rows, "masked")[:, k], masked[:, i] + masked[:, j])
            np.testing.assert_allclose(ppa(given_rows, "weighted")[:, k], one)
            np.testing.assert_allclose(ppa(given_rows, "masked_weighted")[:, k], both)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"table": "avcer9"}, "table: AVCER published no table 'avcer9'. Did you mean avcer"),
            (
                {"table": "avcer8"},
                "the table avcer8 is for 3 sources: a static face, a dynamic face, sound; name them in this order in sources",
            ),
            ({"table": "avcer_video", "sources": ["a/b", "a/b"]}, "the table avcer_video is for 2 sources"),
            (
                {"table": "avcer_video", "sources": ["a/b", "a/c"], "checkpoint": "x"},
                "table and checkpoint are two answers to one question",
            ),
            ({"parity": True}, "sources, level and parity are of a table of AVCER; give table as well"),
        ],
    )
    def test_options_that_do_not_fit(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            build(DirichletFusion.Options, options)

    def test_unknown_names(self) -> None:
        with pytest.raises(UsageError, match=r"AVCER published no table 'avcer'. Did you mean avcer"):
            table("avcer")
        with pytest.raises(UsageError, match="a table of AVCER has the levels single and double, not 'triple'"):
            table("avcer8", level="triple")  # type: ignore[arg-type]
