"""The methods by name. A new method is added here, with the importers of its foreign checkpoints.

A package adds a method through the entry-point group `adq_edge.methods`: a subclass of `AnomalyModel` under
the name of its `arch`. A complete example is in `examples/method/`.
"""

from __future__ import annotations

from typing import Dict, List, Tuple, Type

from adq_edge.core.errors import CheckpointError
from adq_edge.core.plugins import load_factory, plugin_names
from adq_edge.core.text import quoted
from adq_edge.models import (
    paste,
    paste_family,
    reverse_distillation,
    stfpm,
    uninformed_import,
    uninformed_students,
)
from adq_edge.models.base import AnomalyModel
from adq_edge.models.importers import Importer

GROUP = "adq_edge.methods"

_REGISTERED: Tuple[Tuple[Type[AnomalyModel], Tuple[Importer, ...]], ...] = (
    (stfpm.STFPM, stfpm.IMPORTERS),
    (reverse_distillation.ReverseDistillation, reverse_distillation.IMPORTERS),
    (paste.PaSTe, ()),
    (uninformed_students.UninformedStudents, uninformed_import.IMPORTERS),
)

METHODS: Dict[str, Type[AnomalyModel]] = {model.arch: model for model, _ in _REGISTERED}
_INTERNAL: Dict[str, Type[AnomalyModel]] = {paste_family.PaSTeFamily.arch: paste_family.PaSTeFamily}
"""Models that a search trains; no user names them."""
IMPORTERS: Tuple[Importer, ...] = tuple(importer for _, own in _REGISTERED for importer in own)


def method_names() -> List[str]:
    """Return the names of all methods, sorted: those of adq-edge and of installed packages."""
    return sorted({*METHODS, *plugin_names(GROUP, {})})


def method(arch: str) -> Type[AnomalyModel]:
    """Return the model class of a method.

    Raises:
        CheckpointError: the method is unknown, or its package cannot be loaded.
    """
    if arch in METHODS or arch in _INTERNAL:
        return METHODS.get(arch) or _INTERNAL[arch]
    if arch not in method_names():
        raise CheckpointError(
            f"no method named {quoted(arch)}", fix=f"Known methods: {', '.join(method_names())}"
        )
    found: object = load_factory("method", arch, GROUP, {}, CheckpointError)
    if not (isinstance(found, type) and issubclass(found, AnomalyModel)) or found.arch != arch:
        what = f"the package of method {quoted(arch)} does not give an AnomalyModel of this name"
        raise CheckpointError(what, fix=f"Repair its entry point in the group {GROUP}")
    return found
