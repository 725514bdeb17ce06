"""How a method says which foreign checkpoints it can import."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Tuple

from adq_edge.models.base import IMAGENET_MEAN, IMAGENET_STD, ModelConfig, Option
from adq_edge.models.resnet import Backbone

if TYPE_CHECKING:
    from adq_edge.models.base import AnomalyModel


@dataclasses.dataclass(frozen=True)
class ImportRequest:
    """What an importer gets: the foreign state dict and what the user said beside it.

    Attributes:
        state: the state dict; may hold values that are no tensors.
        image_size: (height, width) that the user asked for, if any; the files do not hold it.
        teacher: returns a backbone's torchvision state dict for importers whose files hold no teacher.
    """

    state: Mapping[str, Any]
    image_size: Optional[Tuple[int, int]]
    teacher: Callable[[Backbone], Mapping[str, Any]]

    def config(
        self,
        fusion: str,
        options: Optional[Mapping[str, Option]] = None,
        mean: Tuple[float, float, float] = IMAGENET_MEAN,
        std: Tuple[float, float, float] = IMAGENET_STD,
    ) -> ModelConfig:
        """Return the configuration of the imported model."""
        config = ModelConfig(mean=mean, std=std, fusion=fusion, options=options or {})
        return config if self.image_size is None else dataclasses.replace(config, image_size=self.image_size)


@dataclasses.dataclass(frozen=True)
class Importer:
    """One foreign checkpoint format.

    Attributes:
        name: what it is called.
        signature: regular expression that one of its keys matches as a whole, and no key of another format.
        load: makes the model.
        measured: False if the format lacks what training measures last (`AnomalyModel.finish_stage`).
    """

    name: str
    signature: str
    load: Callable[[ImportRequest], AnomalyModel]
    measured: bool = True

    def recognizes(self, state: Mapping[str, Any]) -> bool:
        """Return True if a state dict is of this format."""
        signature = re.compile(self.signature)
        return any(signature.fullmatch(key) for key in state)
