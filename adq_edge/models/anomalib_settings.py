"""The settings in a checkpoint of anomalib: backbone, layers, map mode and pre-processing.

| version | settings of the method | pre-processing |
|---|---|---|
| 1.x | `hyper_parameters` | `transform`, a pickled transform |
| 2.0 to 2.6 | `hyper_parameters` | `hyper_parameters["pre_processor"]`: True, False or a pickled object |
| 2.7 | `hyper_parameters` | `anomalib_pre_processor_config`, plain data |
| exported `.pt` | attributes of the pickled modules | the pickled `pre_processor` or `transform` |

A file with the weights alone has none of them. Then anomalib's defaults are assumed.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from adq_edge.core.errors import CheckpointError
from adq_edge.core.text import quoted
from adq_edge.models.config import IMAGENET_MEAN, IMAGENET_STD
from adq_edge.models.pickles import Record
from adq_edge.models.preprocessing import EXPORT_INSTEAD, Preprocessing, member_value, parse_transforms
from adq_edge.models.resnet import ALL_LAYERS, Backbone

_DEFAULT = Preprocessing(size=(256, 256), mean=IMAGENET_MEAN, std=IMAGENET_STD)


@dataclasses.dataclass(frozen=True)
class AnomalibSettings:
    """The settings of an anomalib model; None where the file has none.

    Attributes:
        backbone: the ResNet of the teacher.
        layers: names of the compared layers, separated by commas.
        map_mode: `add` or `multiply`, how Reverse Distillation fuses the maps.
        preprocessing: what happens to images.
    """

    backbone: Optional[Backbone] = None
    layers: Optional[str] = None
    map_mode: Optional[str] = None
    preprocessing: Optional[Preprocessing] = None

    def config(self, wanted: Optional[Tuple[int, int]]) -> Dict[str, Any]:
        """Return the values of `ModelConfig` for the images; `wanted` is the size that the user asked for."""
        if self.preprocessing is None:
            return dataclasses.replace(_DEFAULT, size=wanted or _DEFAULT.size).config(None)
        return self.preprocessing.config(wanted)


def read_settings(content: Mapping[str, Any]) -> AnomalibSettings:
    """Return the settings in the content of a checkpoint.

    Raises:
        CheckpointError: adq-edge cannot follow a setting; the message names it.
    """
    found = _attributes(content)
    backbone = found.get("backbone")
    layers = found.get("layers")
    mode = found.get("anomaly_map_mode")
    return AnomalibSettings(
        None if backbone is None else _backbone(backbone),
        None if layers is None else _layers(layers),
        None if mode is None else _map_mode(mode),
        _preprocessing(content, found),
    )


def _attributes(content: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the arguments of the model's class, or the attributes of a pickled model."""
    arguments = content.get("hyper_parameters")
    if isinstance(arguments, Record):
        arguments = arguments.fields
    if isinstance(arguments, dict):
        return dict(arguments)
    found: Dict[str, Any] = {}
    waiting: List[Any] = [content.get("model")]
    seen: Set[int] = set()
    names = {"mode": "anomaly_map_mode", "backbone": "backbone", "layers": "layers"}
    while waiting:
        module = waiting.pop()
        if not isinstance(module, Record) or id(module) in seen:
            continue
        seen.add(id(module))
        fields = module.fields
        for name, known_as in names.items():
            if name in fields and (name != "mode" or module.name.endswith("AnomalyMapGenerator")):
                found.setdefault(known_as, fields[name])
        parts = fields.get("_modules")
        parts = parts if isinstance(parts, dict) else {}
        for name in ("pre_processor", "transform"):
            if name in parts or name in fields:
                found.setdefault(name, parts.get(name, fields.get(name)))
        waiting.extend(parts[name] for name in _NETWORKS if name in parts)
    return found


_NETWORKS = ("model", "teacher_model", "encoder", "anomaly_map_generator")
"""The parts of a pickled model that have settings."""


def _backbone(value: Any) -> Backbone:
    """Return the backbone of a name of timm, such as `resnet18` or `resnet18.a1_in1k`."""
    known = {backbone.value: backbone for backbone in Backbone}
    name = value.split(".")[0] if isinstance(value, str) else ""
    if name not in known:
        raise CheckpointError(
            f"its backbone is {quoted(value)}",
            fix=f"Known backbones: {', '.join(known)}. {EXPORT_INSTEAD}",
        )
    return known[name]


def _layers(value: Any) -> str:
    """Return names of layers, separated by commas; numbers count timm's features, the stem being 0."""
    values = value.values if isinstance(value, Record) else value
    given = list(values) if isinstance(values, (list, tuple)) else [value]
    numbered = dict(enumerate(ALL_LAYERS, 1))
    names: List[str] = [numbered.get(item, "") if type(item) is int else item for item in given]
    if not names or any(name not in ALL_LAYERS for name in names) or len(set(names)) < len(names):
        raise CheckpointError(
            f"it compares the layers {quoted(value)}",
            fix=f"Known layers: {', '.join(ALL_LAYERS)}, each once. {EXPORT_INSTEAD}",
        )
    return ",".join(sorted(names))


def _map_mode(value: Any) -> str:
    mode = member_value(value).lower()
    if mode not in ("add", "multiply"):
        raise CheckpointError(f"its anomaly_map_mode is {quoted(value)}", fix="Known: add, multiply")
    return mode


def _preprocessing(content: Mapping[str, Any], found: Mapping[str, Any]) -> Optional[Preprocessing]:
    enabled = content.get("anomalib_components_enabled")
    config = content.get("anomalib_pre_processor_config")
    if isinstance(enabled, dict) and enabled.get("pre_processor") is False:
        return Preprocessing()
    if isinstance(enabled, dict) or isinstance(config, dict):  # since 2.7
        transform = config.get("transform") if isinstance(config, dict) else None
        if transform is None:
            raise CheckpointError(
                "its pre-processor has no transform, or one that anomalib does not save", fix=EXPORT_INSTEAD
            )
        return parse_transforms(transform)
    if "pre_processor" in found:
        return _of_component(found["pre_processor"])
    transform = content.get("transform", found.get("transform"))
    if transform is not None:
        return parse_transforms(transform)
    return _DEFAULT if "hyper_parameters" in content else None


def _of_component(component: Any) -> Preprocessing:
    """Return what a pre-processor of anomalib 2.0 to 2.6 does; True stands for the default."""
    if component is True:
        return _DEFAULT
    if component is False or component is None:
        return Preprocessing()
    if not isinstance(component, Record) or component.name.rpartition(".")[2] != "PreProcessor":
        raise CheckpointError(f"its pre-processor is {quoted(component)}", fix=EXPORT_INSTEAD)
    fields = component.fields
    modules = fields.get("_modules")
    transform = modules.get("transform") if isinstance(modules, dict) else None
    return parse_transforms(fields.get("transform") if transform is None else transform)
