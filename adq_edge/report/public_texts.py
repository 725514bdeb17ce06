"""The texts that a submission may hold: each field has a form, and any other text is left out.

A form lists the possible texts, or is so narrow that no name, path, address or serial number has it.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Iterable, Iterator, List, Mapping, Optional, Pattern, Tuple, Type

from adq_edge.core.methods import METHODS
from adq_edge.core.runtimes import RUNTIMES
from adq_edge.core.text import quoted
from adq_edge.hardware.environment import ARM_CORES, INSTRUCTION_SETS
from adq_edge.hardware.jetson import family_names
from adq_edge.hardware.telemetry.rails import INPUT_RAILS
from adq_edge.runtimes.tensorrt.gpu_wait import Wait

_FORM = "form"


def one_of(texts: Iterable[str]) -> str:
    """Return the pattern that only these texts have."""
    return "|".join(re.escape(text) for text in texts)


def joined(pattern: str) -> str:
    """Return the pattern of one or more texts of a pattern, joined by ` + `."""
    return rf"(?:{pattern})(?: \+ (?:{pattern}))*"


_CARD_WORDS = (
    *("GeForce", "RTX", "GTX", "TITAN", "Quadro", "Tesla", "Ti", "SUPER", "Laptop", "GPU", "Ada"),
    *("Generation", "PCIe", "NVL"),
)
CARD = rf"NVIDIA(?: (?:{one_of(_CARD_WORDS)}|[AHLTV]?\d{{1,4}}[A-Z]?|SXM\d|HBM\d|\d{{1,3}}GB)){{1,7}}"
RASPBERRY_PI = r"Raspberry Pi (?:\d|Compute Module \d)"
BOARD = f"{one_of(family_names())}|{RASPBERRY_PI}|{CARD}"
MODULE = r"p\d{4}-\d{4}"
ARCHITECTURE = one_of(("aarch64", "arm64", "x86_64", "AMD64"))
CPU = joined(f"{one_of(ARM_CORES.values())}|Arm implementer 0x[0-9a-f]{{2}} part 0x[0-9a-f]{{3}}")
INSTRUCTIONS = one_of(INSTRUCTION_SETS)
MODE = r"(?:MODE_)?(?:MAXN(?:_SUPER)?|\d{1,3}W(?:_(?:\d{1,2}CORE|ALL|DESKTOP))?)|custom"
SYSTEM = r"(?:Ubuntu|Debian GNU/Linux) \d{1,2}(?:\.\d{1,2}){0,2}"
L4T = r"\d{2}\.\d{1,2}\.\d{1,2}"
JETPACK = r"\d(?:\.(?:\d{1,2}|x)){0,2}(?: DP)?"
CUDA = r"\d{1,2}\.\d{1,2}"
VERSION = r"(?:\d{1,2}|20\d\d)\.\d{1,4}(?:\.\d{1,4})?"
PACKAGE = one_of(("numpy", "onnx", "opencv", *RUNTIMES))
RUNTIME = one_of((*RUNTIMES, "other"))
METHOD = one_of((*METHODS, "imported"))
ENGINE = rf"(?:{METHOD})-[a-z]{{2,4}}\d{{1,2}}(?:-\d{{1,2}})?"
WAIT = one_of(wait.value for wait in Wait)
FORMATS = one_of(("INT8", "FP8", "FP16", "BF16", "FP32", "DLA"))
RAIL = joined(one_of((*dict.fromkeys(rail for group in INPUT_RAILS for rail in group), "package-0", "input")))
GOVERNOR = one_of(
    ("performance", "powersave", "ondemand", "conservative", "schedutil", "userspace", "interactive")
)
DATE = r"20\d\d-[01]\d-[0-3]\d"


def form(pattern: str) -> Mapping[str, Pattern[str]]:
    """Return the metadata of a dataclass field whose texts have this form."""
    return {_FORM: re.compile(pattern, re.ASCII)}


def public_text(kind: Type[Any], name: str, text: Optional[str], otherwise: Optional[str] = None) -> Any:
    """Return a text if a field may hold it, else another one.

    Args:
        kind: the dataclass.
        name: the name of its field.
        text: the text of this machine.
        otherwise: the text instead of one that the field may not hold.
    """
    return text if text is not None and _forms(kind)[name].fullmatch(text) else otherwise


def public_texts(kind: Type[Any], name: str, texts: Iterable[str]) -> Tuple[str, ...]:
    """Return those of the texts that a field may hold."""
    return tuple(text for text in texts if _forms(kind)[name].fullmatch(text))


def short_version(text: str) -> str:
    """Return the first three numbers of a version, without the marks of a private build."""
    return ".".join(re.findall(r"\d+", text.split("+")[0])[:3])


def find_private_text(value: Any) -> Optional[str]:
    """Return a sentence on the first text in a dataclass that its field may not hold; None without one."""
    return next(_private_texts(value, "", None), None)


def _forms(kind: Type[Any]) -> Mapping[str, Any]:
    return {field.name: field.metadata.get(_FORM) for field in dataclasses.fields(kind)}


def _private_texts(value: Any, place: str, allowed: Optional[Pattern[str]]) -> Iterator[str]:
    if dataclasses.is_dataclass(value):
        forms = _forms(type(value))
        for name, part in vars(value).items():
            yield from _private_texts(part, f"{place}.{name}".lstrip("."), forms[name])
    elif type(value) is str:  # members of enumerations are texts of a list
        if allowed is None or not allowed.fullmatch(value):
            yield f"{place} is not a text that a submission may hold: {quoted(value)}"
    else:
        for part in _parts(value):
            yield from _private_texts(part, place, allowed)


def _parts(value: Any) -> List[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return list(value) if isinstance(value, tuple) else []
