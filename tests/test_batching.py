"""Batches: padding and masks, outputs that break the contract, batches that do not fit or fail."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affectkit.api import BASIC7, COMPOUND7, VA, LabelSet, Modality, Output, PluginError, UsageError
from affectkit.batching import Batcher, Item, check_output, choose_device, collate

EVEN = torch.full((1, 7), 1 / 7)
UNITS = LabelSet("two_units", ("au1", "au2"), kind="multilabel", low=0.0, high=1.0)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(1, 3))
def test_collate_pads_the_first_dimension_and_masks_what_is_real(lengths, width):
    rows = [{"x": torch.rand(length, width) + 1, "n": torch.tensor(float(length))} for length in lengths]
    batch = collate(rows)
    assert set(batch) == {"x", "x_mask", "n"}
    assert batch["x"].shape == (len(rows), max(lengths), width)
    assert batch["x_mask"].shape == (len(rows), max(lengths))
    assert batch["x_mask"].dtype == torch.bool
    assert batch["n"].tolist() == lengths
    for i, length in enumerate(lengths):
        assert torch.equal(batch["x"][i, :length], rows[i]["x"])
        assert batch["x_mask"][i].tolist() == [True] * length + [False] * (max(lengths) - length)
        assert not batch["x"][i, length:].any()


@given(st.permutations(range(4)))
def test_collate_keeps_the_order_of_the_rows(order):
    batch = collate([{"x": torch.full((i + 1,), float(i))} for i in order])
    assert batch["x"][:, 0].tolist() == order
    assert batch["x_mask"].sum(dim=1).tolist() == [i + 1 for i in order]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"x": torch.zeros(1)}, {"y": torch.zeros(1)}], "the same keys for every clip, found [('x',), ('y',)]"),
        (
            [{"x": torch.zeros(2, 3)}, {"x": torch.zeros(2, 4)}],
            "the same shape but for its first dimension, found [((2, 3), 'torch.float32'), ((2, 4)",
        ),
        ([{"x": torch.zeros(1)}, {"x": torch.zeros(1, dtype=torch.int64)}], "'x' with one dtype"),
        ([{"x": torch.zeros(())}, {"x": torch.zeros(1)}], "'x' with one dtype and the same shape"),
    ],
)
def test_collate_refuses_what_does_not_fit_together(rows, message):
    with pytest.raises(PluginError, match=re.escape(message)):
        collate(rows)


@pytest.mark.parametrize(
    ("labels", "output", "message"),
    [
        (BASIC7, Output({}), "fake declares label set 'basic7' and returned []"),
        (BASIC7, Output({COMPOUND7: EVEN}), "fake declares label set 'basic7' and returned ['compound7']"),
        (BASIC7, Output({BASIC7: EVEN[:, :6]}), "fake must return (1, 7) values for 'basic7', found (1, 6)"),
        (BASIC7, Output({BASIC7: EVEN.repeat(2, 1)}), "fake must return (1, 7) values for 'basic7', found (2, 7)"),
        (BASIC7, Output({BASIC7: EVEN * torch.nan}), "fake returned values that are not finite for 'basic7'"),
        (BASIC7, Output({BASIC7: EVEN * 0.5}), "fake must return rows that sum to 1 for 'basic7', found a row that sums to 0.500"),
        (BASIC7, Output({BASIC7: EVEN - torch.eye(7)[:1]}), "fake returned values outside [0.0, 1.0] for 'basic7'"),
        (VA, Output({VA: torch.tensor([[1.5, 0.0]])}), "fake returned values outside [-1.0, 1.0] for 'va'"),
        (UNITS, Output({UNITS: torch.tensor([[0.9, -0.1]])}), "fake returned values outside [0.0, 1.0] for 'two_units'"),
        (BASIC7, Output({BASIC7: EVEN}, {"e": torch.zeros(3)}), "fake must return (1, D) numbers for the embedding 'e', found (3,)"),
        (BASIC7, Output({BASIC7: EVEN}, {"e": torch.zeros(2, 3)}), "fake must return (1, D) numbers for the embedding 'e', found (2, 3)"),
        (
            BASIC7,
            Output({BASIC7: EVEN}, quality={"q": torch.zeros(1, 1)}),
            "fake must return (1,) numbers for the quality 'q', found (1, 1)",
        ),
        (BASIC7, Output({BASIC7: EVEN}, notes=[{}, {}]), "fake must return one note per clip, found 2 for 1 clips"),
    ],
)
def test_outputs_that_break_the_contract(labels, output, message):
    with pytest.raises(PluginError) as raised:
        check_output("fake", output, [labels], 1)
    assert str(raised.value) == message


def test_a_multilabel_row_need_not_sum_to_one():
    check_output("fake", Output({UNITS: torch.tensor([[0.9, 0.8]])}), [UNITS], 1)


class Doubling(Modality):
    """Gives each number back as valence, fails on those above 1, and has memory for ``room`` clips."""

    name = "doubling"
    labels = VA

    def __init__(self, room: int = 1000) -> None:
        super().__init__()
        self.room = room
        self.sizes: list[int] = []

    def preprocess(self, clip):
        return None

    def predict(self, batch):
        self.sizes.append(len(batch["x"]))
        if len(batch["x"]) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory (made up)")
        if bool((batch["x"] > 1).any()):
            raise ValueError("above 1")
        return Output({VA: torch.stack([batch["x"], -batch["x"]], dim=1)})


def run(modality: Doubling, numbers: list[float], batch_size: int) -> tuple[list[object], Batcher]:
    """What each number gave: its valence, or the error."""
    said: list[object] = [None] * len(numbers)
    batcher = Batcher("fake/doubling", modality, torch.device("cpu"), torch.float32, batch_size)

    def receiver(i: int):
        def receive(row) -> None:
            assert said[i] is None
            said[i] = row if isinstance(row, Exception) else round(float(row.values[VA][0]), 6)

        return receive

    for i, number in enumerate(numbers):
        batcher.add(Item(modality.name, {"x": torch.tensor(number)}, None, receiver(i)))
    while batcher.pending:
        batcher.run()
    return said, batcher


@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 9))
def test_every_clip_is_answered_once_whatever_fits(numbers, batch_size, room):
    said, batcher = run(Doubling(room), numbers, batch_size)
    assert said == [round(number, 6) for number in numbers]
    assert batcher.forwards == len(batcher.modality.sizes)


def test_a_batch_that_does_not_fit_is_halved_and_later_ones_stay_small():
    modality = Doubling(room=3)
    said, batcher = run(modality, [i / 100 for i in range(40)], 16)
    assert said == [i / 100 for i in range(40)]
    assert modality.sizes[:3] == [16, 8, 4]
    assert set(modality.sizes[3:]) == {2}
    assert (batcher.halved, batcher.batch_size) == (3, 2)


def test_one_clip_that_does_not_fit_says_so():
    said, _ = run(Doubling(room=0), [0.5, 0.25], 2)
    assert [str(error) for error in said] == [
        "fake/doubling: one clip does not fit the memory of cpu; use --device cpu, or --precision bf16 on a GPU (CUDA out of memory (made up))"
    ] * 2
    assert all(isinstance(error, PluginError) for error in said)


@given(st.lists(st.sampled_from([0.5, 2.0]), min_size=1, max_size=20), st.integers(1, 8))
def test_a_bad_clip_costs_only_itself(numbers, batch_size):
    said, batcher = run(Doubling(), numbers, batch_size)
    assert ["error" if isinstance(s, ValueError) else s for s in said] == ["error" if n > 1 else n for n in numbers]
    assert batcher.batch_size == batch_size, "a defect is not a lack of memory"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "unknown device 'gpu'; use auto, cpu, cuda or cuda:0"),
        ("meta", "device 'meta' is not supported; use auto, cpu, cuda or cuda:0"),
        ("cuda:97", f"device 'cuda:97' is not here ({torch.cuda.device_count()} CUDA devices found); use --device auto or cpu"),
    ],
)
def test_devices_that_are_not_here(name, message):
    with pytest.raises(UsageError) as raised:
        choose_device(name)
    assert str(raised.value) == message


def test_auto_takes_what_is_there():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")
