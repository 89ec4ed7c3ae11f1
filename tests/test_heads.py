"""PPA, PFSA, direct and blended heads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affectkit.builtin.blend import Blend
from affectkit.builtin.direct import Direct
from affectkit.builtin.pfsa import EMOTIONS, PFSA, fit_prototypes, load_pfsa, mean_directions, pfsa, save_pfsa
from affectkit.builtin.ppa import PAIRS, PPA, ppa
from affectkit.components import Head, Output, Sources
from affectkit.errors import CheckpointError, ConfigError, LabelError, PluginError, UsageError
from affectkit.labels import BASIC7, BASIC8, COMPOUND7
from affectkit.weight_files import save_tensors

CPU = torch.device("cpu")
NE, AN, DI, FE, HA, SA, SU, OT = range(8)
FS, HS, SS, DS, AS, SF, SAN = range(7)
ONE_HOT_PAIRS = {FS: (FE, SU), HS: (HA, SU), SS: (SA, SU), DS: (DI, SU), AS: (AN, SU), SF: (SA, FE), SAN: (SA, AN)}
SEEDS = st.integers(0, 2**31)


def rows(seed: int, n: int = 16, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed), dtype=dtype).mul(1.5).softmax(dim=1)


def nothing(n: int = 0) -> Sources:
    """Sources of a run without any."""
    return Sources(BASIC8, (), torch.empty(n, 0, 8), torch.empty(n, 0, 8, dtype=torch.bool))


class TestPPA:
    @pytest.mark.parametrize("rule", ["sum", "masked", "weighted"])
    @pytest.mark.parametrize(("compound", "pair"), ONE_HOT_PAIRS.items())
    def test_a_pair_gives_its_compound(self, rule: str, compound: int, pair: tuple[int, int]) -> None:
        probs = torch.zeros(1, 8)
        probs[0, list(pair)] = 0.5
        assert int(ppa(probs, rule).argmax()) == compound  # type: ignore[arg-type]

    def test_pairs_are_those_of_the_specs(self) -> None:
        assert PAIRS == ((3, 6), (4, 6), (5, 6), (2, 6), (1, 6), (5, 3), (5, 1))

    def test_a_tie_goes_to_the_lowest_index(self) -> None:
        assert int(ppa(torch.full((1, 8), 1 / 8)).argmax()) == 0

    @given(SEEDS)
    def test_geometry_of_the_sum(self, seed: int) -> None:
        """Notes on Team RAS, 3.1: five classes share surprise."""
        q = rows(seed)
        best = ppa(q).argmax(dim=1)
        for row, found in zip(q.tolist(), best.tolist(), strict=True):
            partners = {FS: FE, HS: HA, SS: SA, DS: DI, AS: AN}
            strongest = max(partners, key=lambda c: row[partners[c]])
            if row[SA] + max(row[FE], row[AN]) > row[SU] + row[partners[strongest]]:
                assert found == (SF if row[FE] > row[AN] else SAN)
            else:
                assert found == strongest

    @given(SEEDS)
    def test_masked_and_weighted_rules_in_closed_form(self, seed: int) -> None:
        q = rows(seed)
        n = q.numpy()
        kept = np.where(n > 1 / 7, n, 0.0)
        masked = np.stack([kept[:, i] + kept[:, j] for i, j in PAIRS], axis=1)
        np.testing.assert_allclose(ppa(q, "masked").numpy(), masked, atol=1e-15)
        weighted = np.stack(
            [
                5 / 7 * n[:, FE] + 2 / 7 * n[:, SU],
                6 / 8 * n[:, HA] + 2 / 8 * n[:, SU],
                4 / 6 * n[:, SA] + 2 / 6 * n[:, SU],
                6 / 8 * n[:, DI] + 2 / 8 * n[:, SU],
                5 / 7 * n[:, AN] + 2 / 7 * n[:, SU],
                5 / 9 * n[:, FE] + 4 / 9 * n[:, SA],
                5 / 9 * n[:, AN] + 4 / 9 * n[:, SA],
            ],
            axis=1,
        )
        np.testing.assert_allclose(ppa(q, "weighted").numpy(), weighted, atol=1e-15)

    @pytest.mark.parametrize("rule", ["sum", "masked", "weighted"])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    def test_keeps_the_type(self, rule: str, dtype: torch.dtype) -> None:
        out = ppa(rows(0).to(dtype), rule)  # type: ignore[arg-type]
        assert (out.dtype, out.shape) == (dtype, (16, 7))

    @pytest.mark.parametrize("rule", ["sum", "masked", "weighted"])
    def test_a_missing_class_concerns_only_the_compounds_that_need_it(self, rule: str) -> None:
        q = rows(0)
        full = ppa(q, rule)  # type: ignore[arg-type]
        q[:, FE] = torch.nan
        out = ppa(q, rule)  # type: ignore[arg-type]
        assert out[:, [FS, SF]].isnan().all()
        rest = [HS, SS, DS, AS, SAN]
        assert torch.equal(out[:, rest], full[:, rest])

    @pytest.mark.parametrize(
        ("probs", "rule", "message"),
        [
            (torch.rand(4, 7), "sum", r"expected floats of shape \(N, 8\) in the order of BASIC8, found \(4, 7\)"),
            (torch.rand(8), "sum", r"expected floats of shape \(N, 8\) .* found \(8,\)"),
            (torch.ones(4, 8, dtype=torch.int64), "sum", r"expected floats .* torch.int64"),
            (torch.rand(4, 8), "product", r"has the rules sum, masked, weighted and masked_weighted, not 'product'"),
        ],
    )
    def test_what_cannot_be_is_refused(self, probs: torch.Tensor, rule: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            ppa(probs, rule)  # type: ignore[arg-type]

    def test_component_normalises_or_leaves_as_published(self) -> None:
        q = rows(1, dtype=torch.float32)
        raw = PPA(PPA.Options(rows="published")).convert(Output({BASIC8: q}), nothing(16)).values[COMPOUND7]
        torch.testing.assert_close(raw, ppa(q))
        out = PPA().convert(Output({BASIC8: q}), nothing(16)).values[COMPOUND7]
        torch.testing.assert_close(out.sum(dim=1), torch.ones(16))
        torch.testing.assert_close(out, raw / raw.sum(dim=1, keepdim=True))

    def test_component_with_missing_classes_and_rows(self) -> None:
        q = rows(1, n=2, dtype=torch.float32)
        q[0, FE] = torch.nan
        q[1] = torch.nan
        out = PPA().convert(Output({BASIC8: q}), nothing(2)).values[COMPOUND7]
        assert out[0].isnan().tolist() == [True, False, False, False, False, True, False]
        assert float(out[0].nansum()) == pytest.approx(1)
        assert out[1].isnan().all()

    def test_a_mask_that_leaves_nothing_is_no_evidence(self) -> None:
        q = torch.tensor([[0.9, 0.02, 0.02, 0.02, 0.01, 0.01, 0.01, 0.01]])
        assert PPA(PPA.Options(rule="masked")).convert(Output({BASIC8: q}), nothing(1)).values[COMPOUND7].isnan().all()

    def test_it_needs_something_fused(self) -> None:
        with pytest.raises(PluginError, match=r"core/ppa reads fused values of 'basic8', and the fusion gave nothing"):
            PPA().convert(Output({}), nothing())
        with pytest.raises(PluginError, match=r"core/ppa reads fused values of 'basic8', and the fusion gave basic7"):
            PPA().convert(Output({BASIC7: torch.rand(1, 7)}), nothing())


def prototypes(seed: int, d: int = 5) -> torch.Tensor:
    return torch.randn(6, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def embeddings(seed: int, n: int = 9, d: int = 5) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


class TestPFSA:
    @given(SEEDS)
    def test_equals_the_definition(self, seed: int) -> None:
        z, mu = embeddings(seed), prototypes(seed)
        sums, pairs = pfsa(z, mu, "sum").numpy(), pfsa(z, mu, "pair").numpy()
        for compound, pair in ONE_HOT_PAIRS.items():
            i, j = (index - 1 for index in pair)  # prototypes are BASIC8[1:7]
            for n in range(len(z)):
                a, b, c = z[n].numpy(), mu[i].numpy(), mu[j].numpy()
                assert sums[n, compound] == pytest.approx(cosine(a, b) + cosine(a, c), abs=1e-12)
                assert pairs[n, compound] == pytest.approx(cosine(a, b + c), abs=1e-12)

    @pytest.mark.parametrize("variant", ["sum", "pair"])
    @given(seed=SEEDS)
    def test_length_of_an_embedding_does_not_matter_and_rows_are_distributions(self, variant: str, seed: int) -> None:
        z, mu = embeddings(seed), prototypes(seed)
        out = pfsa(z, mu, variant, 0.1)  # type: ignore[arg-type]
        torch.testing.assert_close(out, pfsa(z * 7, mu, variant, 0.1))  # type: ignore[arg-type]
        torch.testing.assert_close(out.sum(dim=1), torch.ones(len(z), dtype=torch.float64))
        assert torch.equal(out.argmax(dim=1), pfsa(z, mu, variant).argmax(dim=1))  # type: ignore[arg-type]

    @pytest.mark.parametrize("variant", ["sum", "pair"])
    def test_no_embedding_is_no_evidence(self, variant: str) -> None:
        z = embeddings(0, n=3)
        z[0], z[1] = 0, torch.nan
        for temperature in (None, 0.1):
            out = pfsa(z, prototypes(0), variant, temperature)  # type: ignore[arg-type]
            assert out[:2].isnan().all()
            assert out[2].isfinite().all()

    def test_prototypes_are_means_of_directions(self) -> None:
        z = torch.tensor([[3.0, 0, 0], [0, 0.5, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 2, 0], [9, 9, 9], [9, 9, 9]])
        labels = ["anger", "Angry", "disgust", "afraid", "joy", "sad", "surprised", "neutral", "other"]
        mu = fit_prototypes(z, labels)
        torch.testing.assert_close(mu[0], torch.tensor([0.5, 0.5, 0]))
        torch.testing.assert_close(mu[2], torch.tensor([1.0, 1, 0]) / 2**0.5)
        numbers = [BASIC8.index(label) for label in labels]
        assert torch.equal(fit_prototypes(z, numbers), mu)
        assert torch.equal(fit_prototypes(z, torch.tensor(numbers)), mu)
        assert EMOTIONS == ("anger", "disgust", "fear", "happiness", "sadness", "surprise")

    def test_prototypes_leave_out_what_has_no_direction(self) -> None:
        z = torch.cat([torch.eye(6), torch.zeros(1, 6), torch.full((1, 6), torch.nan)])
        assert torch.equal(fit_prototypes(z, [1, 2, 3, 4, 5, 6, 1, 2]), torch.eye(6))

    def test_what_cannot_be_is_refused(self) -> None:
        z, mu = embeddings(0), prototypes(0)
        with pytest.raises(
            UsageError, match=r"expected embeddings \(N, D\) and prototypes \(6, D\), found \(9, 5\) torch.float64 and \(7, 5\)"
        ):
            pfsa(z, torch.rand(7, 5).double())
        with pytest.raises(
            UsageError, match=r"expected embeddings and prototypes of one floating point type, found .*float32.* and .*float64"
        ):
            pfsa(z.float(), mu)
        with pytest.raises(UsageError, match=r"has the variants sum and pair, not 'mean'"):
            pfsa(z, mu, "mean")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"expected a temperature greater than 0, found 0"):
            pfsa(z, mu, temperature=0)
        with pytest.raises(UsageError, match=r"expected embeddings \(N, D\) and N labels, found \(9, 5\) and 2 labels"):
            fit_prototypes(z, ["anger", "fear"])
        with pytest.raises(UsageError, match=r"has no embedding of disgust, sadness; give at least one of each of anger, .*surprise"):
            fit_prototypes(torch.eye(4), [1, 3, 4, 6])
        with pytest.raises(UsageError, match=r"expected labels in \[0, 8\), found 8"):
            fit_prototypes(torch.eye(1), [8])
        with pytest.raises(LabelError, match=r"'boredom' is not in label set 'basic8': \[neutral, "):
            fit_prototypes(torch.eye(1), ["boredom"])

    def test_an_emotion_without_an_embedding_has_no_direction(self):
        z = torch.cat([torch.eye(6, dtype=torch.float64), torch.zeros(1, 6, dtype=torch.float64)])
        names = [BASIC8.index(emotion) for emotion in (*EMOTIONS, "anger")]
        assert torch.equal(mean_directions(z, names), fit_prototypes(z, names))
        found = mean_directions(z[1:], names[1:])
        assert found[0].isnan().all()  # of anger there are only zeros
        assert torch.equal(found[1:], torch.eye(6, dtype=torch.float64)[1:])


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """A file of prototypes for the embedding of one source."""
    path = tmp_path / "pfsa.safetensors"
    mu = prototypes(0).float()
    save_pfsa(path, mu, "mini/face_static:face", {"licence": "CC0-1.0", "source": "made by a test"})
    return path, mu


def loaded(path: Path, **options: object) -> PFSA:
    head = PFSA(PFSA.Options(checkpoint=str(path), **options))  # type: ignore[arg-type]
    head.load(CPU, torch.float32)
    return head


def seen(z: torch.Tensor, name: str = "mini/face_static:face") -> Sources:
    return replace(nothing(len(z)), embeddings={name: z})


class TestPFSAComponent:
    def test_says_that_it_is_a_reconstruction(self) -> None:
        assert "reconstruction" in str(PFSA.__doc__)

    @pytest.mark.parametrize("variant", ["sum", "pair"])
    def test_converts_embeddings(self, made: tuple[Path, torch.Tensor], variant: str) -> None:
        path, mu = made
        z = embeddings(3).float()
        z[4] = torch.nan
        head = loaded(path, variant=variant, temperature=0.3)
        assert head.embedding_from == "mini/face_static:face"
        out = head.convert(Output({}), seen(z)).values[COMPOUND7]
        torch.testing.assert_close(out, pfsa(z, mu, variant, 0.3), equal_nan=True)  # type: ignore[arg-type]
        assert out[4].isnan().all()
        raw = loaded(path, variant=variant, rows="published").convert(Output({}), seen(z)).values[COMPOUND7]
        torch.testing.assert_close(raw, pfsa(z, mu, variant), equal_nan=True)  # type: ignore[arg-type]

    def test_refusals(self, made: tuple[Path, torch.Tensor]) -> None:
        with pytest.raises(ConfigError, match=r"core/pfsa has no prototypes: .*components\.core/pfsa\.checkpoint .*--head core/ppa"):
            PFSA().load(CPU, torch.float32)
        with pytest.raises(ConfigError, match=r"core/pfsa has no prototypes: load them"):
            PFSA().convert(Output({}), nothing())
        head = loaded(made[0])
        with pytest.raises(PluginError, match=r"'mini/face_static:face', and the run gives x/y:z; add mini/face_static to the modalities"):
            head.convert(Output({}), seen(torch.rand(2, 5), "x/y:z"))
        with pytest.raises(PluginError, match=r"prototypes of 5 numbers for 'mini/face_static:face', found embeddings \(2, 4\)"):
            head.convert(Output({}), seen(torch.rand(2, 4)))
        with pytest.raises(ConfigError, match=r"temperature must be greater than 0, found 0"):
            PFSA.Options(temperature=0.0)

    def test_file_comes_back_and_its_record_is_told(self, made: tuple[Path, torch.Tensor]) -> None:
        path, mu = made
        found = load_pfsa(path)
        assert torch.equal(found.prototypes, mu)
        assert (found.embedding, found.record["licence"]) == ("mini/face_static:face", "CC0-1.0")
        (record,) = PFSA(PFSA.Options(checkpoint=str(path))).used_checkpoints().values()
        assert (record.licence, record.source) == ("CC0-1.0", "made by a test")

    @pytest.mark.parametrize(
        ("shape", "header", "message"),
        [
            ((7, 5), {}, r"expected prototypes \(6, D\) of \['anger', .*\], found \(7, 5\) of \['anger'"),
            ((6, 5), {"labels": json.dumps(["fear", "anger"])}, r"expected prototypes \(6, D\) .*, found \(6, 5\) of \['fear', 'anger'\]"),
            ((6, 5), {"embedding": "face"}, r"expected an embedding as 'plugin/component:name', found 'face'"),
        ],
    )
    def test_files_that_do_not_fit_are_refused(self, tmp_path: Path, shape: tuple[int, int], header: dict[str, str], message: str) -> None:
        path = tmp_path / "odd.safetensors"
        full = {"embedding": "a/b:c", "labels": json.dumps(EMOTIONS), "record": "{}"} | header
        save_tensors(path, {"prototypes": torch.zeros(shape)}, full)
        with pytest.raises(CheckpointError, match=rf"odd\.safetensors: {message}"):
            load_pfsa(path)

    def test_saving_checks_what_it_gets(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"expected prototypes of shape \(6, D\), found \(5, 3\)"):
            save_pfsa(tmp_path / "x.safetensors", torch.rand(5, 3), "a/b:c", {})
        with pytest.raises(UsageError, match=r"expected an embedding as 'plugin/component:name', found 'a/b'"):
            save_pfsa(tmp_path / "x.safetensors", torch.rand(6, 3), "a/b", {})


def speaking(values: torch.Tensor, valid: torch.Tensor) -> Sources:
    """A run with sources of basic emotions and others that speak the compound set."""
    names = tuple(f"x/match{i}" for i in range(values.shape[1]))
    compound = Sources(COMPOUND7, names, values.where(valid, torch.nan), valid)
    return Sources(BASIC8, ("x/face",), torch.rand(len(values), 1, 8), torch.ones(len(values), 1, 8) > 0, others={COMPOUND7: compound})


class TestDirect:
    def test_is_the_mean_of_valid_sources(self) -> None:
        values = torch.rand(4, 3, 7).softmax(dim=2)
        valid = torch.ones(4, 3, 7, dtype=torch.bool)
        valid[0, 1], valid[1, 1:], valid[2] = False, False, False
        out = Direct().convert(Output({}), speaking(values, valid)).values[COMPOUND7]
        torch.testing.assert_close(out[0], values[0, [0, 2]].mean(dim=0))
        torch.testing.assert_close(out[1], values[1, 0])
        assert out[2].isnan().all()
        torch.testing.assert_close(out[3], values[3].mean(dim=0))

    def test_reads_sources_of_the_compound_set_itself(self) -> None:
        given_ = speaking(torch.rand(2, 1, 7).softmax(dim=2), torch.ones(2, 1, 7) > 0).others[COMPOUND7]
        torch.testing.assert_close(Direct().convert(Output({}), given_).values[COMPOUND7], given_.values[:, 0])

    def test_nobody_speaks_the_compound_set(self) -> None:
        given_ = replace(speaking(torch.rand(2, 1, 7), torch.ones(2, 1, 7) > 0), others={})
        message = r"core/direct needs a modality that says 'compound7' itself, .* its sources: x/face \(basic8\); .*--head core/ppa"
        with pytest.raises(PluginError, match=message):
            Direct().convert(Output({}), given_)

    def test_declares_what_it_needs(self) -> None:
        assert (Direct.reads, Direct.speaks) == (None, COMPOUND7)


class Fixed(Head):
    """Says what it was given."""

    name = "fixed"

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.values = values
        self.loaded = False

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        self.loaded = True

    def convert(self, fused: Output, sources: Sources) -> Output:
        return Output({self.labels: self.values})


def blend(heads: dict[str, Head], weights: dict[str, float]) -> Blend:
    head = Blend(Blend.Options(heads=weights))
    head.set_heads(heads)
    head.load(CPU, torch.float32)
    return head


class TestBlend:
    def test_is_the_weighted_mean_over_heads_with_evidence(self) -> None:
        one, two = torch.rand(4, 7).softmax(dim=1), torch.rand(4, 7).softmax(dim=1)
        one[1], two[2] = torch.nan, torch.nan
        one[3], two[3] = torch.nan, torch.nan
        head = blend({"a/one": Fixed(one), "a/two": Fixed(two)}, {"a/one": 3, "a/two": 1})
        out = head.convert(Output({}), nothing(4)).values[COMPOUND7]
        torch.testing.assert_close(out[0], 0.75 * one[0] + 0.25 * two[0])
        torch.testing.assert_close(out[1], two[1])
        torch.testing.assert_close(out[2], one[2])
        assert out[3].isnan().all()

    @given(st.floats(0.01, 100), st.floats(0.01, 100), SEEDS)
    def test_lies_between_its_heads(self, first: float, second: float, seed: int) -> None:
        one, two = (rows(seed + i, dtype=torch.float32)[:, :7].softmax(dim=1) for i in range(2))
        out = blend({"a/one": Fixed(one), "a/two": Fixed(two)}, {"a/one": first, "a/two": second}).convert(Output({}), nothing(16))
        values = out.values[COMPOUND7]
        assert bool((values >= torch.minimum(one, two) - 1e-6).all())
        assert bool((values <= torch.maximum(one, two) + 1e-6).all())

    def test_order_of_what_it_is_given_does_not_matter_and_all_are_loaded(self) -> None:
        heads: dict[str, Head] = {"a/two": Fixed(torch.full((1, 7), 1 / 7)), "a/one": Fixed(torch.eye(7)[:1])}
        head = blend(heads, {"a/one": 0.7, "a/two": 0.3})
        assert head.blends() == ("a/one", "a/two")
        assert all(one.loaded for one in heads.values())  # type: ignore[attr-defined]
        assert float(head.convert(Output({}), nothing(1)).values[COMPOUND7][0, 0]) == pytest.approx(0.7 + 0.3 / 7)

    def test_takes_over_what_its_heads_need(self, made: tuple[Path, torch.Tensor]) -> None:
        alone = Blend(Blend.Options(heads={"core/direct": 1, "core/pfsa": 1}))
        alone.set_heads({"core/direct": Direct(), "core/pfsa": PFSA(PFSA.Options(checkpoint=str(made[0])))})
        assert (alone.reads, alone.speaks) == (None, COMPOUND7)
        assert list(alone.used_checkpoints()) == ["core/pfsa:given"]
        alone.load(CPU, torch.float32)
        assert alone.embedding_from == "mini/face_static:face"
        fused = blend({"core/ppa": PPA()}, {"core/ppa": 1})
        assert (fused.reads, fused.speaks, fused.embedding_from) == (BASIC8, None, None)

    def test_refusals(self) -> None:
        with pytest.raises(ConfigError, match=r"the weight of core/ppa must be greater than 0, found 0"):
            Blend.Options(heads={"core/ppa": 0})
        with pytest.raises(ConfigError, match=r"core/blend cannot blend itself"):
            Blend.Options(heads={"core/blend": 1})
        with pytest.raises(ConfigError, match=r"core/blend has nothing to blend; give components\.core/blend\.heads"):
            Blend().set_heads({})
        with pytest.raises(ConfigError, match=r"core/blend has no heads yet: hand them over with set_heads"):
            Blend(Blend.Options(heads={"core/ppa": 1})).load(CPU, torch.float32)
        with pytest.raises(ConfigError, match=r"core/blend expected the heads \[core/pfsa, core/ppa\], found \[core/ppa\]"):
            blend({"core/ppa": PPA()}, {"core/ppa": 1, "core/pfsa": 1})
        odd = Fixed(torch.rand(1, 7))
        odd.labels = BASIC7
        with pytest.raises(PluginError, match=r"core/blend blends heads that give 'compound7', and a/b gives 'basic7'"):
            blend({"a/b": odd}, {"a/b": 1})
