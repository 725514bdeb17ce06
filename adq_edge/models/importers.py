"""How a method says which foreign checkpoints it can import."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Tuple

from adq_edge.models.base import ModelConfig

if TYPE_CHECKING:
    from adq_edge.models.base import AnomalyModel


@dataclasses.dataclass(frozen=True)
class ImportRequest:
    """What an importer gets: the foreign state dict and what the user said beside it.

    Attributes:
        state: the state dict; may hold values that are no tensors.
        image_size: (height, width) that the user asked for, if any; the files do not hold it.
        teacher: returns a torchvision state dict for importers whose files hold no teacher.
    """

    state: Mapping[str, Any]
    image_size: Optional[Tuple[int, int]]
    teacher: Callable[[], Mapping[str, Any]]

    def config(self, fusion: str) -> ModelConfig:
        """Return the configuration of the imported model."""
        if self.image_size is None:
            return ModelConfig(fusion=fusion)
        return ModelConfig(image_size=self.image_size, fusion=fusion)


@dataclasses.dataclass(frozen=True)
class Importer:
    """One foreign checkpoint format, recognised by a key that only it has."""

    name: str
    signature: str
    load: Callable[[ImportRequest], AnomalyModel]
