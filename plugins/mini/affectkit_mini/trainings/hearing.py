"""What the network of voices hears with: the encoder of Smart Turn v3.2 (BSD-2-Clause, Daily, https://github.com/pipecat-ai/smart-turn), which began as that
of Whisper tiny (MIT, OpenAI).

The package ``pipecat-ai`` carries it as ONNX, with weights of a byte each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from affectkit.api import CheckpointError, UsageError
from affectkit.weight_files import load_strict, load_tensors
from affectkit_mini.listening import WIDTH, Listener
from affectkit_mini.packing import unpack
from affectkit_mini.trainings.published import Published

NETWORK = Published(
    component="mini/audio",
    package="pipecat-ai==1.14.0",
    module="pipecat",
    file="audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
    digest="2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
    install="pip install --no-deps pipecat-ai==1.14.0",
)
PREFIX = "listener."  # of its numbers in a file of mini/audio
PARTS = {  # of a block, by the names of torch and of transformers
    "self_attn.out_proj": "self_attn.out_proj",
    "linear1": "fc1",
    "linear2": "fc2",
    "norm1": "self_attn_layer_norm",
    "norm2": "final_layer_norm",
}
PRODUCTS = (
    "self_attn.k_proj",
    "self_attn.q_proj",
    "self_attn.v_proj",
    "self_attn.out_proj",
    "fc1",
    "fc2",
)  # of a block, in the order of the graph


def take(listener: Listener, path: Path) -> None:
    """Gives a listener the numbers of the one that a file of mini/audio carries.

    Raises:
        CheckpointError: where the file is not there, or carries none.
    """
    packed = {name.removeprefix(PREFIX): value for name, value in load_tensors(path).items() if name.startswith(PREFIX)}
    load_strict(listener, unpack(packed), path)


def begin(listener: Listener, path: Path) -> None:
    """Gives a listener the numbers of the published encoder.

    Args:
        listener: new; it is changed.
        path: of the ONNX file.

    Raises:
        UsageError: where the package onnx is not installed.
        CheckpointError: where the file is no such network.
    """
    numbers = _read(path, len(listener.blocks))
    try:
        state = {
            "first.weight": numbers["conv1.weight"],
            "first.bias": numbers["conv1.bias"],
            "second.weight": numbers["conv2.weight"],
            "second.bias": numbers["conv2.bias"],
            "positions": numbers["embed_positions.weight"],
        }
        for index in range(len(listener.blocks)):
            theirs, ours = f"layers.{index}.", f"blocks.{index}."
            queries, keys, values = (numbers[f"{theirs}self_attn.{name}_proj.weight"] for name in "qkv")
            state[f"{ours}self_attn.in_proj_weight"] = torch.cat([queries, keys, values])
            biases = [numbers[f"{theirs}self_attn.{name}_proj.bias"] for name in "qv"]
            state[f"{ours}self_attn.in_proj_bias"] = torch.cat([biases[0], torch.zeros(WIDTH), biases[1]])  # its keys have none
            for mine, name in PARTS.items():
                state |= {f"{ours}{mine}.{part}": numbers[f"{theirs}{name}.{part}"] for part in ("weight", "bias")}
        listener.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} is no encoder of Smart Turn v3: {error}") from error


def _read(path: Path, blocks: int) -> dict[str, Tensor]:
    """The numbers of an ONNX file under the names of its encoder; the factors of products have none there and are told by their order."""
    try:
        import onnx
    except ImportError:
        raise UsageError(f"the package onnx is not installed, which reads {path.name}: pip install onnx") from None
    graph: Any = onnx.load(str(path)).graph
    found = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    sources = {name: node for node in graph.node for name in node.output if node.op_type == "DequantizeLinear" and node.input[0] in found}

    def weights(node: Any) -> Tensor:
        source = sources[node]
        whole, scale = (found[name].float() for name in source.input[:2])
        axis = next((value.i for value in source.attribute if value.name == "axis"), 1)
        return whole * (
            scale if scale.ndim == 0 or len(scale) == 1 else scale.view([-1 if side == axis else 1 for side in range(whole.ndim)])
        )

    numbers = {name.removeprefix("inner.encoder."): value for name, value in found.items() if name.startswith("inner.encoder.")}
    for index, node in enumerate((node for node in graph.node if node.op_type == "Conv"), start=1):
        numbers |= {f"conv{index}.weight": weights(node.input[1]), f"conv{index}.bias": weights(node.input[2])}
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in sources]
    for place, node in enumerate(products[: blocks * len(PRODUCTS)]):
        block, which = divmod(place, len(PRODUCTS))
        numbers[f"layers.{block}.{PRODUCTS[which]}.weight"] = weights(node.input[1]).T
    return numbers
