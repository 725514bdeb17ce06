"""The methods, by name: the one place where a new method is added."""

from __future__ import annotations

from typing import Dict, Tuple, Type

from adq_edge.errors import CheckpointError
from adq_edge.models import stfpm
from adq_edge.models.base import AnomalyModel
from adq_edge.models.importers import Importer

METHODS: Dict[str, Type[AnomalyModel]] = {stfpm.STFPM.arch: stfpm.STFPM}

IMPORTERS: Tuple[Importer, ...] = (*stfpm.IMPORTERS,)


def method(arch: str) -> Type[AnomalyModel]:
    """Return the model class of a method.

    Raises:
        CheckpointError: no such method.
    """
    if arch not in METHODS:
        raise CheckpointError(f"no method named {arch!r}", fix=f"Known methods: {', '.join(sorted(METHODS))}")
    return METHODS[arch]
