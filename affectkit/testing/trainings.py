"""Checks of trainings: what can be said without their data, and what stops one in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from affectkit.errors import UsageError
from affectkit.testing.subjects import ContractError, Subject, Unchecked, doing

if TYPE_CHECKING:
    import torch

    from affectkit.trainings import Training


@contextmanager
def stopped_after(training: type[Training], steps: int) -> Iterator[None]:
    """Within it, whoever trains is interrupted after so many steps, as by Ctrl-C: the next loss raises ``KeyboardInterrupt``.

    Args:
        training: its class.
        steps: whole ones.
    """
    from unittest.mock import patch

    loss, left = training.loss, iter(range(steps))

    def stopping(self: Training, *given: Any) -> torch.Tensor:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return loss(self, *given)

    with patch.object(training, "loss", stopping):
        yield


class TrainingSubject(Subject):
    """A training under test; nothing is trained."""

    kind = "training"

    def make_given(self) -> Any:
        """Nothing: what a training reads is its author's."""
        raise Unchecked(f"{self.id} is checked without data")

    def ask(self, component: Any, given: Any) -> Any:
        """Nothing."""
        raise Unchecked(f"{self.id} is checked without data")


def network_made(subject: TrainingSubject) -> None:
    """It makes a network with parameters, the same one twice with the same random numbers; where it learns nothing, none is needed."""
    import torch

    training = subject.make()
    if not training.learns:
        return
    networks = []
    with doing(f"{subject.id}.network()", "where it depends on the data raise a UsageError before parts() was called"):
        for _ in range(2):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                try:
                    networks.append(training.network())
                except UsageError as problem:
                    raise Unchecked(f"{subject.id} makes its network when it has seen the data: {problem}") from problem
    for network in networks:
        if not isinstance(network, torch.nn.Module) or not any(True for _ in network.parameters()):
            raise ContractError(
                f"{subject.id}.network() gave {type(network).__name__} without parameters; give the torch.nn.Module that is trained"
            )
    one, other = (network.state_dict() for network in networks)
    if list(one) != list(other) or not all(torch.equal(one[name], other[name]) for name in one):
        raise ContractError(f"{subject.id}.network() begins with other numbers each time; take random numbers from torch alone")
