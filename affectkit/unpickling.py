"""Reading pickles of others: plain containers, numbers, text and NumPy arrays, and nothing else.

A pickle is a program, and ``pickle.load`` runs it. Here only the few functions by which NumPy rebuilds its arrays may be called, so that a file cannot do anything
but become data. What else it names is told, and nothing of it is imported.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from affectkit.errors import UsageError

_ARRAYS = {"_reconstruct", "scalar"}
_ALLOWED = {
    *(
        ("numpy", name)
        for name in ("ndarray", "dtype", "bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")
    ),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in _ARRAYS),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("_codecs", "encode"),  # how protocol 2 writes the bytes of an array
    ("collections", "OrderedDict"),
    *((module, name) for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "bytes", "bytearray", "complex")),
}


class _Plain(pickle.Unpickler):
    """An unpickler that knows plain data and NumPy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise UsageError(f"it holds {module}.{name}, which is no plain data")
        if module.startswith("numpy.") and module.split(".")[1] in ("core", "_core"):
            module = _core(module.rpartition(".")[2])
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise UsageError("it refers to data outside the file")


def read_pickle(path: Path) -> Any:
    """The content of a pickle of plain containers, numbers, text and NumPy arrays.

    Args:
        path: the file.

    Raises:
        UsageError: where it is absent, damaged, or holds anything else; nothing of what it holds was run.
    """
    try:
        with path.open("rb") as file:
            return _Plain(file).load()
    except UsageError as error:
        raise UsageError(
            f"{path} is not read: {error}. Only lists, dictionaries, numbers, text and NumPy arrays are; where it holds tensors, write it again with .numpy()"
        ) from None
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UsageError(f"{path} is no pickle, or a damaged one ({type(error).__name__}: {error})") from None


def _core(name: str) -> str:
    """The module of NumPy's core under the name that this version has."""
    from importlib.util import find_spec

    return f"numpy._core.{name}" if find_spec("numpy._core") is not None else f"numpy.core.{name}"
