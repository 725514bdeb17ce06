"""The methods, by name: the one place where a new method is added."""

from __future__ import annotations

from typing import Dict, Tuple, Type

from adq_edge.core.errors import CheckpointError
from adq_edge.models import reverse_distillation, stfpm, uninformed_students
from adq_edge.models import uninformed_import as uninformed_files
from adq_edge.models.base import AnomalyModel
from adq_edge.models.importers import Importer

METHODS: Dict[str, Type[AnomalyModel]] = {
    model.arch: model
    for model in (
        stfpm.STFPM,
        reverse_distillation.ReverseDistillation,
        uninformed_students.UninformedStudents,
    )
}

IMPORTERS: Tuple[Importer, ...] = (
    *stfpm.IMPORTERS,
    *reverse_distillation.IMPORTERS,
    *uninformed_files.IMPORTERS,
)


def method(arch: str) -> Type[AnomalyModel]:
    """Return the model class of a method.

    Raises:
        CheckpointError: no such method.
    """
    if arch not in METHODS:
        raise CheckpointError(f"no method named {arch!r}", fix=f"Known methods: {', '.join(sorted(METHODS))}")
    return METHODS[arch]
