"""What the authors of plugins test with: contract classes for pytest, the same checks without it, and tiny media.

Importing this loads neither torch nor pytest.
"""

from __future__ import annotations

from affectkit.testing.contracts import (
    CHECKS,
    FusionContract,
    HeadContract,
    ModalityContract,
    Outcome,
    ProviderContract,
    SubmitterContract,
    TrainingContract,
    examine,
)
from affectkit.testing.subjects import ContractError, Unchecked

__all__ = [
    "CHECKS",
    "ContractError",
    "FusionContract",
    "HeadContract",
    "ModalityContract",
    "Outcome",
    "ProviderContract",
    "SubmitterContract",
    "TrainingContract",
    "Unchecked",
    "examine",
]
