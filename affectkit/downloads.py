"""Downloads: one file over HTTP, with its digest on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import IO

from affectkit.errors import CheckpointError

Progress = Callable[[int, int | None], None]
"""Is told how many bytes have come and how many there are, ``None`` where the server does not say."""

HUGGING_FACE = "https://huggingface.co"
CHUNK = 1 << 20  # bytes read at once
TIMEOUT = 30.0  # seconds without an answer from a server


def download(url: str, file: IO[bytes], progress: Progress | None, failed: str, by_hand: str) -> str:
    """Copies a URL into a file and gives its sha256.

    Args:
        url: where it comes from.
        file: where it goes.
        progress: is told how many bytes have come.
        failed: how a message begins.
        by_hand: how a message ends.

    Raises:
        CheckpointError: where it does not come, or not to its end, or cannot be written.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    digest = hashlib.sha256()
    received = 0
    request = Request(url, headers={"User-Agent": "affectkit"})
    if url.startswith(f"{HUGGING_FACE}/") and (token := os.environ.get("HF_TOKEN")):
        request.add_unredirected_header("Authorization", f"Bearer {token}")  # the files themselves come from other hosts
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            length = answer.headers.get("Content-Length")
            total = int(length) if length else None
            while chunk := answer.read(CHUNK):
                received += len(chunk)
                digest.update(chunk)
                _write(file, chunk)
                if progress:
                    progress(received, total)
    except HTTPError as error:
        terms = " Accept its terms there and set HF_TOKEN." if error.code in (401, 403) and url.startswith(HUGGING_FACE) else ""
        raise CheckpointError(f"{failed}: {url} answered {error.code} {error.reason}.{terms} {by_hand}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise CheckpointError(f"{failed}: {getattr(error, 'reason', None) or error} ({url}). {by_hand}") from None
    if total is not None and received != total:
        raise CheckpointError(f"{failed}: the connection ended after {received} of {total} bytes. Try again. {by_hand}")
    return digest.hexdigest()


def _write(file: IO[bytes], chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:  # apart from errors of the network, which are OSErrors too
        raise CheckpointError(f"{file.name} cannot be written: {error.strerror}; nothing was kept") from None
