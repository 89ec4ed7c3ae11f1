"""``import affectkit``: light, lazy, and the same for type checkers as at run time."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import affectkit

HEAVY = {"torch", "pandas", "pyarrow", "av", "cv2", "rich", "matplotlib", "mmengine"}


def test_every_name_is_the_one_of_its_module() -> None:
    """What type checkers are told is what is imported when a name is first asked for."""
    tree = ast.parse(Path(affectkit.__file__).read_text(encoding="utf-8"))
    told = {a.asname: n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names if a.asname is not None}
    assert {"__version__", *told} == set(affectkit.__all__) == set(dir(affectkit))
    for name, module in told.items():
        assert getattr(affectkit, name) is getattr(import_module(str(module)), name)


def test_no_name_loads_anything_heavy() -> None:
    code = "import sys, affectkit; [getattr(affectkit, name) for name in affectkit.__all__]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'affectkit' has no attribute 'red_run'"):
        _ = affectkit.red_run


def test_the_package_is_typed() -> None:
    assert Path(affectkit.__file__).with_name("py.typed").is_file()
