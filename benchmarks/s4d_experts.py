"""Experts: what the mixture of adapter experts of S4D costs beside the plain MLP of the same block, forward and backward, at its published sizes.

    python benchmarks/s4d_experts.py [--clips 4] [--repeats 15] [--device cpu] [--width 768]

A block with experts does all that a plain block does and the experts besides. Printed are, on the same tokens, the time of the MLP, that of the expert layer
(router, sorting, eight adapters, putting back), their ratio, and the ratio that their multiplications would have. A loop over tokens is there for
comparison, on the tokens of one picture. The order of the measurements within a repeat alternates; figures are medians.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from affectkit_s4d.experts import ExpertLayer, Mlp
from affectkit_s4d.model import Sizes
from torch import Tensor


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall time of a call."""
    _wait(device)
    begin = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forward(module: torch.nn.Module, x: Tensor) -> Tensor:
    """What a layer says of tokens."""
    said = module(x)
    found: Tensor = said if isinstance(said, Tensor) else said.values
    return found


def both(module: torch.nn.Module, x: Tensor) -> None:
    """Forward and backward."""
    forward(module, x).square().mean().backward()


def one_by_one(layer: ExpertLayer, x: Tensor) -> Tensor:
    """The same as the layer, by a loop over tokens."""
    out = []
    for token in x.flatten(0, 1):
        kept, chosen = layer.router(token[None], False)[0].topk(layer.top_k)
        said = [layer.experts[int(expert)](token) for expert in chosen]
        out.append(sum(share * one for share, one in zip(kept.softmax(0), said, strict=True)))
    return torch.stack(out).view_as(x)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=4, help="clips of 800 tokens at once (default: 4)")
    parser.add_argument("--repeats", type=int, default=15, help="measurements of each (default: 15)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--width", type=int, default=768, help="of a token; the other sizes follow (default: 768)")
    given = parser.parse_args()
    device, width = torch.device(given.device), given.width
    sizes = Sizes(width=width, heads=max(1, width // 64), hidden=4 * width, adapter=width // 4)
    torch.manual_seed(0)
    mlp = Mlp(width, sizes.hidden).to(device)
    experts = ExpertLayer(width, sizes.experts, sizes.top_k, sizes.adapter).to(device)
    x = torch.randn(given.clips, sizes.tokens, width, device=device)
    layers: dict[str, torch.nn.Module] = {"MLP": mlp, "experts": experts}
    taken: dict[tuple[str, str], list[float]] = {}
    for turn in range(given.repeats + 1):
        for name in sorted(layers, reverse=bool(turn % 2)):
            layer = layers[name]
            with torch.inference_mode():
                layer.eval()
                once = seconds(lambda layer=layer: forward(layer, x), device)
            layer.train()
            back = seconds(lambda layer=layer: both(layer, x), device)
            if turn:
                taken.setdefault((name, "forward"), []).append(once)
                taken.setdefault((name, "forward and backward"), []).append(back)
    print(
        f"{given.clips} clips of {sizes.tokens} tokens of {width}, {given.device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    for what in ("forward", "forward and backward"):
        plain, mixed = (median(taken[name, what]) for name in ("MLP", "experts"))
        print(f"{what}: MLP {1e3 * plain:.1f} ms, experts {1e3 * mixed:.1f} ms, experts / MLP {mixed / plain:.2f}")
    multiplied = sizes.top_k * sizes.adapter + sizes.experts / 2
    print(f"by multiplications: {multiplied / sizes.hidden:.2f}")
    experts.eval()
    few = x[:1, : sizes.places]
    with torch.inference_mode():
        slow = median(seconds(lambda: one_by_one(experts, few), device) for _ in range(3))
        quick = median(seconds(lambda: forward(experts, few), device) for _ in range(3))
        apart = float((one_by_one(experts, few) - forward(experts, few)).abs().max())
    print(f"{sizes.places} tokens: a loop over tokens takes {slow / quick:.0f} times as long, and says the same within {apart:.0e}")


if __name__ == "__main__":
    main()
