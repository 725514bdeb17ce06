"""Seeded mutations of a file's content: its bytes, its JSON values, the entries of an archive."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from typing import Any, Callable, List, Sequence

_LONG = "a" * 100_000
SCALARS: Sequence[Any] = (
    *(None, True, False, 0, 1, -1, 2, 7, 255, 10**6, 2**31, 2**63 - 1, 2**63, 10**400, -(10**30)),
    *(0.0, -0.0, 0.5, 1e-300, 1e300, -1e300, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "a",
        "nan",
        "1",
        "/",
        "..",
        "../../x",
        "a\0b",
        "\x1b[31m",
        "\u202ex",
        "\ud800",
        "\u2028",
        _LONG,
    ),
    *(
        "[/bold]",
        "%s",
        "{0}",
        "=1+1",
        "|",
        "\n\n",
        "\r",
        "part0",
        "onnxruntime",
        "tensorrt",
        "openvino",
        "int8",
    ),
)


_DEEP = "deep"
"""Stands for a list inside 900 lists, which Python cannot encode."""


def mutate_bytes(content: bytes, chance: random.Random) -> bytes:
    """Return content with bits flipped, parts cut, repeated, moved or overwritten, or of another kind."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        chance.choice(_EDITS)(data, chance)
    return bytes(data)


def _flip(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _cut_end(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _cut(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.choice((1, 4, 64, 4096))]


def _repeat(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    part = data[start : start + chance.choice((1, 4, 64, 4096))]
    data[start:start] = part * chance.choice((1, 2, 50))


def _splice(data: bytearray, chance: random.Random) -> None:
    start, other = (chance.randrange(len(data) + 1) for _ in range(2))
    length = chance.choice((1, 8, 256))
    data[start : start + length] = data[other : other + length]


def _insert(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = chance.choice(
        (b"\0", b"\xff" * 8, b"\n", b"\x1b[2J", b"9" * 5000, b"[" * 900, b"\xff\xfe")
    )


def _number(data: bytearray, chance: random.Random) -> None:
    """Overwrite an integer of 2, 4 or 8 bytes: lengths and sizes in binary formats."""
    width = chance.choice((2, 4, 8))
    start = chance.randrange(len(data) + 1)
    value = chance.choice((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), chance.getrandbits(8 * width)))
    data[start : start + width] = value.to_bytes(width, chance.choice(("little", "big")))


def _replace_all(data: bytearray, chance: random.Random) -> None:
    data[:] = chance.choice(
        (b"", b"\0" * 64, b"{}", b"[]", b"PK\x03\x04", b"\x80\x02.", b"\x89PNG\r\n\x1a\n", b"\xff\xd8")
    )


_EDITS: Sequence[Callable[[bytearray, random.Random], None]] = (
    *(_flip, _flip, _flip, _set, _cut_end, _cut, _repeat, _splice, _insert, _number, _number),
    _replace_all,
)


def mutate_json(content: bytes, chance: random.Random) -> bytes:
    """Return JSON with changed values, types, depth, keys or numbers; sometimes no JSON."""
    if chance.random() < 0.15:
        return mutate_bytes(content, chance)
    document = json.loads(content.decode("utf-8"))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        document = change_value(document, chance)
    text = json.dumps(document, ensure_ascii=chance.random() < 0.8)
    text = text.replace(f'"{_DEEP}"', "[" * 900 + "]" * 900)
    codec = chance.choice(("utf-8",) * 12 + ("utf-8-sig", "utf-16", "utf-16-le"))
    return text.encode(codec, "surrogatepass")


def find_places(value: Any, found: List[Any]) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found.append((value, key))
        find_places(item, found)


def change_value(document: Any, chance: random.Random) -> Any:
    """Return a tree of dictionaries and lists with one value, key or type changed."""
    places: List[Any] = []
    find_places(document, places)
    if not places or chance.random() < 0.02:
        return chance.choice(SCALARS)
    container, key = chance.choice(places)
    edit = chance.randrange(10)
    if edit < 4:
        container[key] = chance.choice(SCALARS)
    elif edit == 4:
        container[key] = chance.choice(([], {}, [[]] * 1000, {"a": {}}, _DEEP, [container[key]]))
    elif edit == 5 and isinstance(container, dict):
        del container[key]
    elif edit == 6 and isinstance(container, dict):
        container[chance.choice([one for one in SCALARS if isinstance(one, str)])] = container.pop(key)
    elif edit == 7:
        other, name = chance.choice(places)
        container[key] = copy.deepcopy(other[name]) if name in _keys(other) else None
    elif edit == 8 and isinstance(container[key], float):
        container[key] = container[key] * chance.choice((-1, 0, 10, 1e12, 0.5))
    elif isinstance(container, list):
        container.extend([container[key]] * chance.choice((1, 10, 1000)))
    else:
        container[key] = str(container[key])[:1000]
    return document


def _keys(container: Any) -> Any:
    return container if isinstance(container, dict) else range(len(container))


def mutate_archive(content: bytes, chance: random.Random) -> bytes:
    """Return a ZIP archive with an entry changed, removed, renamed or twice; sometimes no archive."""
    if chance.random() < 0.4:
        return mutate_bytes(content, chance)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    place = chance.randrange(len(entries))
    pickles = [number for number, (name, _) in enumerate(entries) if name.endswith("data.pkl")]
    if pickles and chance.random() < 0.6:
        place = pickles[0]
    name, data = entries[place]
    edit = chance.randrange(8)
    if edit < 4:
        entries[place] = (name, mutate_bytes(data, chance))
    elif edit == 4:
        entries[place] = (name, data * chance.choice((0, 2, 100)))
    elif edit == 5:
        del entries[place]
    elif edit == 6:
        entries[place] = (
            chance.choice(("x", "../x", name + "x", "archive/constants.pkl", "data.pkl", "\x1b[2J")),
            data,
        )
    else:
        entries.append((f"{name.split('/')[0]}/data/{chance.randrange(9)}", data))
    written = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if chance.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(written, "w", method) as archive:
        for one, part in entries:
            archive.writestr(one, part)
    return written.getvalue()
