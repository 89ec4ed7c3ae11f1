"""What was said of the last inputs, by their content, so that those that several windows or components share are looked at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Answers by key; those that were not asked for longest are forgotten first. No answer depends on what is remembered.

    Args:
        room: how many answers are kept.

    >>> remembered = Remembered[str, int](2)
    >>> remembered(["a", "bb", "a"], lambda places: [10 * place for place in places])
    [0, 10, 0]
    >>> remembered(["bb", "c"], lambda places: [10 * place for place in places])
    [10, 10]
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._said: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._said)

    def forget(self) -> None:
        """Nothing is kept from here on, as before the first answer."""
        self._said.clear()

    def __call__(self, keys: Sequence[K], answer: Callable[[list[int]], Sequence[V]]) -> list[V]:
        """An answer per key.

        Args:
            keys: the same for the same input.
            answer: what is said of the inputs at these places of ``keys``, each key once; it is not called where there are none.
        """
        fresh: dict[K, int] = {}
        for place, key in enumerate(keys):
            if key not in self._said:
                fresh.setdefault(key, place)
        found = {key: self._said[key] for key in keys if key in self._said}
        if fresh:
            found |= dict(zip(fresh, answer(list(fresh.values())), strict=True))
        for key in keys:
            self._said[key] = found[key]
            self._said.move_to_end(key)
        while len(self._said) > self._room:
            self._said.popitem(last=False)
        return [found[key] for key in keys]
