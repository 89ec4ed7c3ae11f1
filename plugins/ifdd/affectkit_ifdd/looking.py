"""One window of a medium, as a run cuts it, looked at by ``ifdd/face_dynamic``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from affectkit.api import Clip, MediaError, UsageError
from affectkit_ifdd.face_dynamic import OWNER, FaceDynamic
from affectkit_ifdd.picture import Sight, see

if TYPE_CHECKING:
    import torch

    from affectkit.media import Media
    from affectkit.planner import Plan
    from affectkit.plugins import Registry


def look(
    video: Path,
    registry: Registry,
    *,
    recipe: str = "ifdd/ifdd",
    overrides: Sequence[str] = (),
    at: float | None = None,
    device: str = "auto",
) -> list[Sight]:
    """What the component sees of a window: a :class:`Sight` per view.

    Args:
        video: a medium.
        registry: the plugins.
        recipe: name or file; of its modalities, ifdd/face_dynamic alone runs.
        overrides: changes of the recipe, ``KEY=VALUE``.
        at: seconds; the window whose middle is nearest is shown, where it has a face. ``None`` for the first with a face.
        device: as of a run.

    Raises:
        AffectKitError: for recipe, weights or medium that are not as they must be.
        UsageError: where no window has a face.
    """
    import torch

    from affectkit.assembly import assemble
    from affectkit.batching import choose_device
    from affectkit.media import open_media
    from affectkit.session import load_recipe

    chosen = load_recipe(recipe, registry, overrides=overrides, modalities=[OWNER], fusion="none", head="none")
    assembly = assemble(chosen, registry)
    media = open_media(video)
    place = choose_device(device)
    assembly.load(place, torch.float32)
    component = cast(FaceDynamic, assembly.plan.modalities[OWNER])
    found = _clips(media, assembly.plan, component, first=at is None)
    if not found:
        raise UsageError(f"in no window of {video} is a face seen in two pictures at least, and there is nothing to show")
    clip, tensors = found[0] if at is None else min(found, key=lambda pair: abs((pair[0].span.start + pair[0].span.end) / 2 - at))
    title = f"{media.id}, {clip.span.start:.1f} to {clip.span.end:.1f} s, subject {clip.track}"
    return see(component, tensors["views"].to(place), tensors["times"], title)


def _clips(media: Media, plan: Plan, component: FaceDynamic, first: bool) -> list[tuple[Clip, dict[str, torch.Tensor]]]:
    """The clips that hold evidence, one per window, with their tensors; only the first where no more are wanted."""
    from affectkit.clips import Clock
    from affectkit.reader import Reader

    def report(stage: str, whose: str, error: Exception) -> None:
        raise MediaError(f"{whose or stage}: {error}") from error

    found = []
    for window in Reader(media, plan, Clock(), report).windows():
        for request in window.requests:
            tensors = component.preprocess(request.clip)
            if tensors is not None:
                found.append((request.clip, dict(tensors)))
                break
        if found and first:
            break
    return found
