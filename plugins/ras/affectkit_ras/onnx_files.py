"""Networks in ONNX files, by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from affectkit.api import CheckpointError


def session(path: Path, owner: str, *, threads: int, providers: Sequence[str] = ()) -> Any:
    """What runs a network.

    Args:
        path: the file.
        owner: id of the component, for messages.
        threads: that one call may use.
        providers: where it may run rather than on the processor, in order; those that onnxruntime does not have are left out.

    Raises:
        CheckpointError: where the file is none that onnxruntime reads.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    # What onnxruntime raises about a file; each is a plain exception of its own.
    refusals = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )
    given = onnxruntime.SessionOptions()
    given.intra_op_num_threads = threads
    given.log_severity_level = 3  # its warnings are about how it runs, not about what it says
    known = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(
            str(path), given, providers=[name for name in (*providers, "CPUExecutionProvider") if name in known]
        )
    except refusals as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{owner}: {path} is damaged or no ONNX file that onnxruntime reads ({first[:200]}); fetch it again, or give another as the option checkpoint"
        ) from None
