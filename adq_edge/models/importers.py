"""The declaration of a foreign checkpoint format that a method can import."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Callable, Mapping, Optional, Tuple

from adq_edge.models.base import AnomalyModel
from adq_edge.models.config import ModelConfig
from adq_edge.models.resnet import Backbone


@dataclasses.dataclass(frozen=True)
class ImportRequest:
    """The input of an importer.

    Attributes:
        state: the tensors of the foreign state dict.
        image_size: (height, width) in pixels that the user asked for; None for the default.
        teacher: returns a backbone's torchvision state dict, for formats without a teacher.
    """

    state: Mapping[str, Any]
    image_size: Optional[Tuple[int, int]]
    teacher: Callable[[Backbone], Mapping[str, Any]]

    def config(self, **values: Any) -> ModelConfig:
        """Return the configuration of the imported model with these values of `ModelConfig`."""
        if self.image_size is not None:
            values["image_size"] = self.image_size
        return ModelConfig(**values)


@dataclasses.dataclass(frozen=True)
class Importer:
    """One foreign checkpoint format.

    Attributes:
        name: the name of the format.
        signature: regular expression that matches one whole key of this format and no key of another.
        load: function that returns the model.
        measured: False if the format lacks the statistics that `AnomalyModel.finish_stage` measures.
    """

    name: str
    signature: str
    load: Callable[[ImportRequest], AnomalyModel]
    measured: bool = True

    def recognizes(self, state: Mapping[str, Any]) -> bool:
        """Return True if a state dict has this format."""
        signature = re.compile(self.signature)
        return any(signature.fullmatch(key) for key in state)
