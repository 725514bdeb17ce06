"""Checkpoints laid out as anomalib writes them, with stand-ins for the classes that it pickles.

The stand-ins exist only while a file is written: reading it cannot import them.
"""

from __future__ import annotations

import contextlib
import sys
import types
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence

import torch
from torch import nn

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
V2 = "torchvision.transforms.v2"
MODES = "anomalib.models.image.reverse_distillation.anomaly_map.AnomalyMapGenerationMode"

_KNOWN: Dict[str, Any] = {}


class ByName:
    """An object that is pickled as an instance of a class of another name, with attributes.

    Args:
        path: module and name of the class.
        arguments: the arguments of the call that makes it; attributes are set if there are none.
        fields: its attributes.
    """

    def __init__(self, path: str, *arguments: Any, **fields: Any) -> None:
        self.path, self.arguments, self.fields = path, arguments, fields

    def __reduce__(self) -> Any:
        kind = _KNOWN[self.path]
        return (kind, self.arguments, self.fields or None)


class Member(ByName):
    """A member of an enumeration as Python 3.11 pickles it, by its name."""

    def __reduce__(self) -> Any:
        return (getattr, (_KNOWN[self.path], *self.arguments))


@contextlib.contextmanager
def pickled_classes(*paths: str) -> Iterator[None]:
    """Let classes be pickled by these names."""
    before = dict(sys.modules)
    for path in paths:
        module, _, name = path.rpartition(".")
        for end in range(1, len(module.split(".")) + 1):
            parent = ".".join(module.split(".")[:end])
            sys.modules.setdefault(parent, types.ModuleType(parent))
        kind = type(name, (), {"__module__": module, "__qualname__": name})
        setattr(sys.modules[module], name, kind)
        _KNOWN[path] = kind
    try:
        yield
    finally:
        _KNOWN.clear()
        for name in set(sys.modules) - set(before):
            del sys.modules[name]


def save(path: Path, content: Any) -> Path:
    """Write a file with `torch.save`; every `ByName` in it gets a class for the time of writing."""
    names: List[str] = []
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, ByName):
            names.append(value.path)
            waiting += [value.arguments, value.fields]
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
    with pickled_classes(*names):
        torch.save(content, path)
    return path


def spec(name: str, **arguments: Any) -> Dict[str, Any]:
    """Return the description of a transform, as anomalib 2.7 writes it."""
    return {"class_path": f"{V2}.{name}", "init_args": arguments}


def resize(*size: int) -> Dict[str, Any]:
    """Return the description of a Resize."""
    return spec("Resize", size=list(size), interpolation="bilinear", max_size=None, antialias=True)


def crop(size: int) -> Dict[str, Any]:
    """Return the description of a CenterCrop."""
    return spec("CenterCrop", size=[size, size])


def normalize(mean: Sequence[float] = IMAGENET[0], std: Sequence[float] = IMAGENET[1]) -> Dict[str, Any]:
    """Return the description of a Normalize."""
    return spec("Normalize", mean=list(mean), std=list(std), inplace=False)


def compose(*transforms: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the description of a sequence of transforms."""
    return spec("Compose", transforms=list(transforms))


def pickled(description: Mapping[str, Any]) -> ByName:
    """Return a transform as torchvision pickles it, from its description."""
    name = description["class_path"].rpartition(".")[2]
    fields = dict(description["init_args"])
    if "transforms" in fields:
        fields["transforms"] = [pickled(part) for part in fields["transforms"]]
    if "interpolation" in fields:
        mode = "torchvision.transforms.functional.InterpolationMode"
        fields["interpolation"] = ByName(mode, fields["interpolation"])
    module = {"Compose": "_container", "Normalize": "_misc"}.get(name, "_geometry")
    return ByName(f"{V2}.{module}.{name}", **fields, training=True, _modules={})


def pre_processor(description: Mapping[str, Any]) -> ByName:
    """Return a pre-processor as anomalib 2.0 to 2.6 pickles it."""
    path = "anomalib.pre_processing.pre_processor.PreProcessor"
    return ByName(path, training=True, _modules={"transform": pickled(description)})


LAYOUTS = ("1.2", "2.4", "2.7")


def checkpoint(
    state: Mapping[str, Any], description: Mapping[str, Any], layout: str = "2.7", **settings: Any
) -> Dict[str, Any]:
    """Return the content of a checkpoint.

    Args:
        state: the state dict.
        description: the transform.
        layout: the version of anomalib, one of `LAYOUTS`.
        settings: the arguments of the model's class.
    """
    content: Dict[str, Any] = {"epoch": 1, "state_dict": dict(state), "hyper_parameters": dict(settings)}
    if layout == "1.2":
        content["transform"] = pickled(description)
    elif layout == "2.4":
        content["hyper_parameters"]["pre_processor"] = pre_processor(description)
    else:
        content["anomalib_components_enabled"] = {"pre_processor": True}
        content["anomalib_pre_processor_config"] = {"transform": dict(description)}
    return content


def module(path: str, parts: Mapping[str, Any], **fields: Any) -> ByName:
    """Return a pickled module with other modules or networks as parts."""
    return ByName(path, training=False, _parameters={}, _buffers={}, _modules=dict(parts), **fields)


def network(source: nn.Module) -> ByName:
    """Return a network as a pickled module, with its tensors by their whole names."""
    return ByName("timm.models._features.FeatureListNet", _parameters=dict(source.state_dict()), _modules={})
