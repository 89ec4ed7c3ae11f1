"""Where downloads are kept, and whether they are allowed: what the environment says."""

from __future__ import annotations

import os
from pathlib import Path

OFFLINE = {"AFFECTKIT_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""What ``--offline`` sets: nothing is downloaded, by affectkit or by the libraries that a plugin uses."""


def cache_folder() -> Path:
    """Where downloads go: ``AFFECTKIT_CACHE``, or ``affectkit`` in the user's cache folder."""
    given = os.environ.get("AFFECTKIT_CACHE")
    return Path(given).expanduser() if given else user_cache() / "affectkit"


def offline(variable: str = "AFFECTKIT_OFFLINE") -> bool:
    """Whether a variable of :data:`OFFLINE` forbids downloads; ``--offline`` sets all of them."""
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")


def hub_cache() -> Path:
    """Where the Hugging Face libraries keep their downloads."""
    if given := os.environ.get("HF_HUB_CACHE"):
        return Path(given).expanduser()
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else user_cache() / "huggingface") / "hub"


def user_cache() -> Path:
    """The cache folder of the user."""
    given = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return Path(given).expanduser() if given else Path.home() / ".cache"
