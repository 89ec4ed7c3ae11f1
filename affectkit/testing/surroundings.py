"""What a component must leave alone: the state that a whole program shares, and the network."""

from __future__ import annotations

import errno
import logging
import os
import random
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Shared:
    """One piece of state that everything in a process shares.

    Attributes:
        read: gives it.
        write: puts it back.
        advice: what a component does instead of changing it.
    """

    read: Callable[[], Any]
    write: Callable[[Any], None]
    advice: str


def _write_environment(before: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


def _write_path(before: list[str]) -> None:
    sys.path[:] = before


def _write_filters(before: list[Any]) -> None:
    warnings.filters[:] = before  # type: ignore[index]
    warnings.simplefilter("default", category=_NoWarning)  # tells the cache of filters that they changed
    warnings.filters[:] = before  # type: ignore[index]


class _NoWarning(Warning):
    """Never given."""


def _write_handlers(before: tuple[list[logging.Handler], int]) -> None:
    root = logging.getLogger()
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def _read_signals() -> dict[int, Any]:
    return {int(number): signal.getsignal(number) for number in signal.valid_signals()}


def _write_signals(before: Mapping[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _read_torch() -> dict[str, Any]:
    import torch

    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "number of threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "precision of matrix products": torch.get_float32_matmul_precision(),
        "cuDNN benchmark": torch.backends.cudnn.benchmark,
        "deterministic cuDNN": torch.backends.cudnn.deterministic,
    }


def _write_torch(before: Mapping[str, Any]) -> None:
    import torch

    if torch.get_default_device() != before["default device"]:
        torch.set_default_device(before["default device"])
    torch.set_default_dtype(before["default dtype"])
    torch.set_grad_enabled(before["gradients"])
    torch.set_num_threads(before["number of threads"])
    torch.use_deterministic_algorithms(before["deterministic algorithms"])
    torch.set_float32_matmul_precision(before["precision of matrix products"])
    torch.backends.cudnn.benchmark = before["cuDNN benchmark"]
    torch.backends.cudnn.deterministic = before["deterministic cuDNN"]


def read_random() -> dict[str, Any]:
    """The states of the generators of random numbers that a process shares."""
    import torch

    return {"random": random.getstate(), "numpy.random": np.random.get_state(), "torch": torch.get_rng_state()}


def write_random(before: Mapping[str, Any]) -> None:
    """Puts the states that :func:`read_random` gave back."""
    import torch

    random.setstate(before["random"])
    np.random.set_state(before["numpy.random"])
    torch.set_rng_state(before["torch"])


def seed(number: int) -> None:
    """Seeds every generator that a process shares, so that what depends on them shows."""
    import torch

    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


SHARED: Mapping[str, Shared] = {
    "the environment variables": Shared(lambda: dict(os.environ), _write_environment, "pass settings as arguments"),
    "the working directory": Shared(os.getcwd, os.chdir, "use absolute paths"),
    "sys.path": Shared(lambda: list(sys.path), _write_path, "install what is to be imported"),
    "the settings of torch": Shared(_read_torch, _write_torch, "set them for a block of code, with a context manager"),
    "the warnings filters": Shared(lambda: list(warnings.filters), _write_filters, "use warnings.catch_warnings()"),
    "the handlers or the level of the root logger": Shared(
        lambda: (list(logging.getLogger().handlers), logging.getLogger().level), _write_handlers, "use logging.getLogger(__name__)"
    ),
    "the signal handlers": Shared(_read_signals, _write_signals, "leave them to the program"),
    "numpy's handling of errors": Shared(np.geterr, lambda before: np.seterr(**before) and None, "use numpy.errstate()"),
    "the default timeout of sockets": Shared(socket.getdefaulttimeout, socket.setdefaulttimeout, "leave it to the program"),
    "sys.excepthook": Shared(lambda: sys.excepthook, lambda before: setattr(sys, "excepthook", before), "leave it to the program"),
}
"""The shared state that is looked at, by its name in a sentence; the generators of random numbers are apart."""


def read() -> dict[str, Any]:
    """The shared state, by the names of :data:`SHARED`."""
    return {name: shared.read() for name, shared in SHARED.items()}


def write(before: Mapping[str, Any]) -> None:
    """Puts the shared state back where it differs from ``before``."""
    for name, shared in SHARED.items():
        if shared.read() != before[name]:
            shared.write(before[name])


@contextmanager
def kept() -> Iterator[None]:
    """Puts the shared state and the generators of random numbers back at the end."""
    before, numbers = read(), read_random()
    try:
        yield
    finally:
        write(before)
        write_random(numbers)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two states, a few words each, with what to do instead."""
    return [
        f"{name} ({_detail(before[name], after[name])}); {shared.advice}" for name, shared in SHARED.items() if before[name] != after[name]
    ]


def _detail(before: Any, after: Any) -> str:
    if isinstance(before, Mapping):
        names = sorted(str(name) for name in {*before, *after} if before.get(name) != after.get(name))
        return ", ".join(names)
    if isinstance(before, list):
        added = [item for item in after if item not in before]
        return f"added {_short(added)}" if added else f"{len(before)} entries before, {len(after)} after"
    return f"{_short(before)} before, {_short(after)} after"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuses connections and look-ups of names, as a machine without a network does; gives the list of what was tried.

    Sockets between processes of one machine by file (``AF_UNIX``) go on working. Libraries in C that open sockets of their own are
    not seen.
    """
    tried: list[str] = []

    def refuse(where: object) -> OSError:
        tried.append(":".join(str(part) for part in where[:2]) if isinstance(where, tuple) else str(where))
        return OSError(errno.ENETUNREACH, f"{tried[-1]} cannot be reached: components are checked without a network")

    def connect(self: socket.socket, address: Any, /) -> Any:
        if self.family == getattr(socket, "AF_UNIX", None):
            return super(socket.socket, self).connect(address)
        raise refuse(address)

    def connect_ex(self: socket.socket, address: Any, /) -> int:
        if self.family == getattr(socket, "AF_UNIX", None):
            return super(socket.socket, self).connect_ex(address)
        refuse(address)
        return errno.ENETUNREACH

    def sendto(self: socket.socket, *arguments: Any) -> int:
        if self.family == getattr(socket, "AF_UNIX", None):
            return super(socket.socket, self).sendto(*arguments)
        raise refuse(arguments[-1])

    def getaddrinfo(host: object, port: object, *arguments: object, **named: object) -> Any:
        raise refuse((host, port))

    def gethostbyname(host: object) -> Any:
        raise refuse(host)

    inherited = {"connect": connect, "connect_ex": connect_ex, "sendto": sendto}
    functions = {"getaddrinfo": getaddrinfo, "gethostbyname": gethostbyname}
    own = {name: vars(socket.socket)[name] for name in inherited if name in vars(socket.socket)}
    before = {name: getattr(socket, name) for name in functions}
    for name, method in inherited.items():
        setattr(socket.socket, name, method)
    for name, function in functions.items():
        setattr(socket, name, function)
    try:
        yield tried
    finally:
        for name in inherited:
            if name in own:
                setattr(socket.socket, name, own[name])
            else:
                delattr(socket.socket, name)
        for name, function in before.items():
            setattr(socket, name, function)
