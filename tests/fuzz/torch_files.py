"""Seeded mutations of torch files: their archive, values and tensors."""

from __future__ import annotations

import io
import random
from typing import Any, Callable, List, Tuple

from fuzz.mutations import change_value, find_places, mutate_archive

_PARTS = ("config", "training", "training", "training", "arch", "version")
"""Keys of a checkpoint whose values are changed."""
_MOST_NUMBERS = 10**7


def mutate_torch_file(content: bytes, chance: random.Random) -> bytes:
    """Return a torch file with changed values or tensors, or a changed archive."""
    import torch

    if chance.random() < 0.5:
        return mutate_archive(content, chance)
    document = _with_lists(torch.load(io.BytesIO(content), weights_only=True))
    for _ in range(chance.choice((1, 1, 2))):
        tensors = _tensor_places(document)
        if tensors and chance.random() < 0.5:
            container, key = chance.choice(tensors)
            container[key] = chance.choice(_TENSORS)(container[key])
        elif "format" in document:
            part = chance.choice(_PARTS)
            changed = change_value({part: document.get(part)}, chance)
            document[part] = changed.get(part) if isinstance(changed, dict) else changed
        else:
            changed = change_value(document, chance)
            document = changed if isinstance(changed, dict) else {"x": changed}
    written = io.BytesIO()
    torch.save(document, written, _use_new_zipfile_serialization=chance.random() < 0.7)
    return written.getvalue()


def _tensor_places(document: Any) -> List[Tuple[Any, Any]]:
    """Return the containers and keys of the tensors that an earlier mutation has not made strange."""
    import torch

    places: List[Any] = []
    find_places(document, places)
    return [
        (container, key)
        for container, key in places
        if isinstance(container[key], torch.Tensor) and _is_plain(container[key])
    ]


def _is_plain(tensor: Any) -> bool:
    return bool(
        tensor.layout.__str__() == "torch.strided"
        and tensor.device.type == "cpu"
        and not tensor.is_complex()
        and tensor.numel() < _MOST_NUMBERS
    )


_TENSORS: Tuple[Callable[[Any], Any], ...] = (
    *(
        lambda t: t.double(),
        lambda t: t.half(),
        lambda t: t.long(),
        lambda t: t.bool(),
        lambda t: t.flatten(),
    ),
    *(
        lambda t: t * float("nan"),
        lambda t: t / 0,
        lambda t: -t.float().abs(),
        lambda t: t * 0,
        lambda t: t[..., None],
    ),
    *(
        lambda t: t.to("meta"),
        lambda t: t.to_sparse(),
        lambda t: t.float() + 1j,
        lambda t: None,
        lambda t: "x",
    ),
    *(lambda t: t.flatten()[:1].expand(2**33), lambda t: t.flatten()[:0], lambda t: [t], lambda t: {"t": t}),
)


def _with_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, (list, tuple)) else value
