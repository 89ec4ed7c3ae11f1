"""Everything that the author of a plugin imports. What is listed here is stable within a major version."""

from __future__ import annotations

from affectkit.challenges import Asked, Problem, Submitter
from affectkit.clip_training import ClipOptions, ClipTraining
from affectkit.components import Component, Fusion, Head, Modality, Output, Provider, Sources
from affectkit.errors import AffectKitError, CheckpointError, ConfigError, LabelError, MediaError, PluginError, UsageError
from affectkit.evidence import Evidence, Word
from affectkit.hookspecs import hookimpl
from affectkit.labels import AU12, BASIC7, BASIC8, COMPOUND7, VA, LabelSet
from affectkit.media import Clip, Media, Span
from affectkit.needs import Audio, Checkpoint, Frames, Input, Needs
from affectkit.trainings import About, Pace, Part, Training, Turn, Written

__all__ = [
    "AU12",
    "BASIC7",
    "BASIC8",
    "COMPOUND7",
    "VA",
    "About",
    "AffectKitError",
    "Asked",
    "Audio",
    "Checkpoint",
    "CheckpointError",
    "Clip",
    "ClipOptions",
    "ClipTraining",
    "Component",
    "ConfigError",
    "Evidence",
    "Frames",
    "Fusion",
    "Head",
    "Input",
    "LabelError",
    "LabelSet",
    "Media",
    "MediaError",
    "Modality",
    "Needs",
    "Output",
    "Pace",
    "Part",
    "PluginError",
    "Problem",
    "Provider",
    "Sources",
    "Span",
    "Submitter",
    "Training",
    "Turn",
    "UsageError",
    "Word",
    "Written",
    "hookimpl",
]
