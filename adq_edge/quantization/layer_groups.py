"""Groups the layers of networks, so that an analysis can state what each part of a model costs.

The names of nodes give the groups, such as `backbone.layer1`. If they are only numbers, the structure gives
the groups: networks that share no tensor but the image, and in each the size of the maps.
"""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, Optional, Tuple

from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.passes.fixed_shapes import fix_to_one_image, known_shapes
from adq_edge.quantization.region import NetworkOperator, Region

MOST_GROUPS = 12
_LARGEST_SHARE = 0.25
"""Share of all layers above which a group is divided."""
_SHARE_OF_PATHS = 0.5
"""Share of the weighted layers that must have a path for names to count."""
Path = Tuple[str, ...]


def group_layers(model: FloatModel) -> Dict[str, Tuple[str, ...]]:
    """Return the names of the layers of each group, in graph order; operators without weights are left out.

    Args:
        model: a float model.
    """
    layers = [step for step in model.region.operators if step.node.op_type in WEIGHTED]
    paths = {step.node.name: _path(step.node.name) for step in layers}
    named = [path for path in paths.values() if len(path) > 1]
    if len(set(named)) > 1 and len(named) >= _SHARE_OF_PATHS * len(layers):
        groups = _divide(paths)
        if len(groups) > 1:
            return groups
    return _by_structure(model, layers)


def _path(name: str) -> Path:
    """Return the modules in the name of a layer's node: `/teacher/layer1/conv1/Conv` or `teacher.layer1`."""
    parts = re.split(r"[/.]", name)[:-1] if "/" in name else name.split(".")
    found: List[str] = []
    for part in parts:
        if part and part not in found[-1:]:  # torch repeats names: /layer1/layer1.0/
            found.append(part)
    return tuple(found)


def _divide(paths: Mapping[str, Path]) -> Dict[str, Tuple[str, ...]]:
    """Return groups of layers whose paths begin alike; the largest are divided until each is small."""
    start = _common_start(list(paths.values()))
    groups: Dict[Path, List[str]] = {(): list(paths)}
    rest = {name: path[len(start) :] for name, path in paths.items()}
    finished = False
    while not finished:
        finished = True
        for prefix in sorted(groups, key=lambda each: -len(groups[each])):
            children = _children(groups[prefix], rest, prefix)
            is_large = len(groups[prefix]) > _LARGEST_SHARE * len(paths)
            if is_large and len(children) > 1 and len(groups) - 1 + len(children) <= MOST_GROUPS:
                del groups[prefix]
                groups.update(children)
                finished = False
                break
    order = {name: number for number, name in enumerate(paths)}
    ordered = sorted(groups, key=lambda each: order[groups[each][0]])
    return {".".join(prefix) or ".".join(start): tuple(groups[prefix]) for prefix in ordered}


def _common_start(paths: List[Path]) -> Path:
    first, last = min(paths), max(paths)
    length = next((i for i, pair in enumerate(zip(first, last)) if pair[0] != pair[1]), min(map(len, paths)))
    return first[:length]


def _children(members: List[str], paths: Mapping[str, Path], prefix: Path) -> Dict[Path, List[str]]:
    """Return the members of a group by longer prefixes, at which their paths differ."""
    common = prefix + _common_start([paths[name][len(prefix) :] for name in members])
    found: Dict[Path, List[str]] = {}
    for name in members:
        found.setdefault(paths[name][: len(common) + 1], []).append(name)
    return found


def _by_structure(model: FloatModel, layers: List[NetworkOperator]) -> Dict[str, Tuple[str, ...]]:
    """Return groups of layers of one network, and of maps of one size in it."""
    networks = _networks(model.region)
    shapes = _shapes(model)
    count = len({networks[step.output] for step in layers})
    numbers: Dict[str, int] = {}
    groups: Dict[str, List[str]] = {}
    for step in layers:
        number = numbers.setdefault(networks[step.output], len(numbers) + 1)
        shape = shapes.get(step.output, ())
        place = "x".join(map(str, shape[2:])) if len(shape) == 4 and None not in shape else "other shapes"
        name = f"network {number}, {place}" if count > 1 else place
        groups.setdefault(name, []).append(step.node.name)
    return {name: tuple(members) for name, members in groups.items()}


def _networks(region: Region) -> Dict[str, str]:
    """Return the first tensor of the network of each tensor; networks share no tensor but the image."""
    first: Dict[str, str] = {}

    def root(name: str) -> str:
        while first.setdefault(name, name) != name:
            name = first[name]
        return name

    for step in region.steps:
        joined = [
            *step.node.output,
            *step.outputs,
            *(name for name in step.inputs if name not in region.image),
        ]
        for name in joined:
            first[root(name)] = root(joined[0])
    return {name: root(name) for name in first}


def _shapes(model: FloatModel) -> Mapping[str, Tuple[Optional[int], ...]]:
    """Return the shapes of all tensors for one image."""
    return known_shapes(fix_to_one_image(model.proto))
