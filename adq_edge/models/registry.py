"""The methods by name. A new method is added here, with the importers of its foreign checkpoints."""

from __future__ import annotations

from typing import Dict, Tuple, Type

from adq_edge.core.errors import CheckpointError
from adq_edge.core.text import quoted
from adq_edge.models import reverse_distillation, stfpm, uninformed_import, uninformed_students
from adq_edge.models.base import AnomalyModel
from adq_edge.models.importers import Importer

_REGISTERED: Tuple[Tuple[Type[AnomalyModel], Tuple[Importer, ...]], ...] = (
    (stfpm.STFPM, stfpm.IMPORTERS),
    (reverse_distillation.ReverseDistillation, reverse_distillation.IMPORTERS),
    (uninformed_students.UninformedStudents, uninformed_import.IMPORTERS),
)

METHODS: Dict[str, Type[AnomalyModel]] = {model.arch: model for model, _ in _REGISTERED}
IMPORTERS: Tuple[Importer, ...] = tuple(importer for _, own in _REGISTERED for importer in own)


def method(arch: str) -> Type[AnomalyModel]:
    """Return the model class of a method.

    Raises:
        CheckpointError: the method is unknown.
    """
    if arch not in METHODS:
        raise CheckpointError(
            f"no method named {quoted(arch)}", fix=f"Known methods: {', '.join(sorted(METHODS))}"
        )
    return METHODS[arch]
