"""The declaration of a foreign checkpoint format that a method can import."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Callable, Mapping, Optional, Tuple

from adq_edge.models.base import AnomalyModel
from adq_edge.models.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig
from adq_edge.models.layers import join_layers
from adq_edge.models.pickles import Record
from adq_edge.models.resnet import Backbone


@dataclasses.dataclass(frozen=True)
class ImportRequest:
    """The input of an importer.

    Attributes:
        state: the tensors of the foreign state dict.
        content: the whole content of the file, with the settings beside the weights.
        image_size: (height, width) in pixels that the user asked for; None for the default.
        teacher: returns a backbone's torchvision state dict, for formats without a teacher.
    """

    state: Mapping[str, Any]
    image_size: Optional[Tuple[int, int]]
    teacher: Callable[[Backbone], Mapping[str, Any]]
    content: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def config(self, **values: Any) -> ModelConfig:
        """Return the configuration of the imported model with these values of `ModelConfig`."""
        if self.image_size is not None:
            values["image_size"] = self.image_size
        return ModelConfig(**values)

    @property
    def states_settings(self) -> bool:
        """True if the file has settings of anomalib beside its weights; other formats state none."""
        model = self.content.get("model")
        is_module = isinstance(model, Record) and model.name.startswith("anomalib.")
        return is_module or "hyper_parameters" in self.content


def describe_settings(model: AnomalyModel, stated: bool) -> str:
    """Return the settings of an imported model in one line.

    Args:
        model: the model.
        stated: True if the file has settings, False if the format's defaults were assumed.
    """
    config = model.config
    parts = [str(config.options["backbone"])] if "backbone" in config.options else []
    parts.append("images of {}x{} pixels".format(*config.image_size))
    if config.crop is not None:
        parts.append("center crop {}x{} (nothing outside of it is judged)".format(*config.crop))
    if config.mean == (0.0, 0.0, 0.0) and config.std == (1.0, 1.0, 1.0):
        parts.append("no normalization")
    elif (config.mean, config.std) == (IMAGENET_MEAN, IMAGENET_STD):
        parts.append("ImageNet's mean and std")
    else:
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (config.mean, config.std))
        parts.append(f"mean {mean}, std {std}")
    parts += [join_layers(model.layers)] if model.layers else []
    parts.append(f"{config.fusion} fusion of the maps")
    return f"{'read from the file' if stated else 'not in the file, so assumed'}: {', '.join(parts)}"


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
