"""Checks that each path of a command line is of the kind that the verb takes, before the verb starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Optional, Tuple

from adq_edge.core.errors import AdqError
from adq_edge.core.storage import storage_errors

if TYPE_CHECKING:
    from adq_edge.artifacts.file_kinds import KnownPath


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a parameter takes.

    Attributes:
        noun: its name in a message.
        kinds: names of the members of `FileKind` that are taken.
        inside: the kind that a folder is searched for, to name one; empty for none.
        has_images: True if a folder with images is taken.
        words: values that are no paths.
    """

    noun: str
    kinds: Tuple[str, ...] = ()
    inside: str = ""
    has_images: bool = False
    words: Tuple[str, ...] = ()


_ENGINE = Expected("an engine", ("ENGINE",), "ENGINE")
_BUNDLE = Expected("a bundle", ("BUNDLE",), "BUNDLE")
_CHECKPOINT = Expected("a checkpoint", ("CHECKPOINT",), "CHECKPOINT")
_MODEL = Expected("an ONNX model", ("FOREIGN",), "FOREIGN")
_DATASET = Expected("a dataset folder", has_images=True)
_IMAGES = Expected("a folder of images", has_images=True, words=("random-normal",))
_WEIGHTS = Expected("a file of teacher weights", ("CHECKPOINT",), words=("demo",))

EXPECTED: Mapping[str, Expected] = {
    "engine": _ENGINE,
    "engine_a": _ENGINE,
    "engine_b": _ENGINE,
    "against": _ENGINE,
    "engines": _ENGINE,
    "bundle": _BUNDLE,
    "estimate": _BUNDLE,
    "checkpoint": _CHECKPOINT,
    "model": _MODEL,
    "qat": _CHECKPOINT,
    "teacher_weights": _WEIGHTS,
    "data": _DATASET,
    "fit": _DATASET,
    "check": _DATASET,
    "good": _IMAGES,
    "calib_data": _IMAGES,
    "plan": Expected("a precision plan", ("PLAN", "JSON")),  # a plan written by hand may have any layout
    "image": Expected("an image", ("IMAGE",)),
    "results": Expected("a result file", ("RESULT", "JSON"), "RESULT"),
    "paths": Expected("an engine or an image", ("ENGINE", "IMAGE"), "ENGINE", has_images=True),
    "replay": Expected("a folder of images", has_images=True),
    "station": Expected("a station file", ("OTHER",)),
    "token_file": Expected("a file with a token", ("OTHER",)),
    "config": Expected("a study description", ("JSON",)),
}
"""What the parameters of all verbs take, by name. `--good` of synthetic is a number, which is no path."""


def check_paths(values: Mapping[str, Any]) -> None:
    """Check the paths that a verb was given.

    A missing path, or one of an unknown kind, is left to the verb.

    Args:
        values: the verb's arguments and options by parameter name.

    Raises:
        AdqError: a path is of another kind; the message names the kind and the next command.
        StorageError: a path cannot be accessed.
    """
    for name, value in values.items():
        if name not in EXPECTED or value is None:
            continue
        expected = EXPECTED[name]
        if name == "engines" and values.get("host"):
            expected = dataclasses.replace(expected, noun="an engine or bundle", kinds=("ENGINE", "BUNDLE"))
        given = value if isinstance(value, (list, tuple)) else [value]
        paths = [path for path in given if isinstance(path, (str, Path)) and path not in expected.words]
        problems = [_problem(Path(path), expected) for path in paths]
        if name == "paths" and len(problems) > 1 and problems[0] is None and None in problems[1:]:
            continue  # the verb reports the paths that are no images, and judges the others
        for problem in problems:
            if problem is not None:
                raise problem


def _problem(path: Path, expected: Expected) -> Optional[AdqError]:
    from adq_edge.artifacts.file_kinds import FileKind, describe_path, has_images, is_bundle

    with storage_errors(path):
        if expected.has_images and path.is_dir() and not is_bundle(path) and has_images(path):
            return None
        known = describe_path(path)
    if known is None or (known.kind is FileKind.OTHER and expected is EXPECTED["paths"]):
        return None
    if _is_accepted(path, known, expected):
        return None
    return AdqError(f"{known.name}, not {expected.noun}", where=path, fix=_fix(path, known, expected))


def _is_accepted(path: Path, known: KnownPath, expected: Expected) -> bool:
    """Return True if a path is of an expected kind, or the verb has to decide."""
    from adq_edge.artifacts.file_kinds import FileKind, find_in

    if known.kind.name in expected.kinds:
        return True
    if not path.is_dir():
        return False
    if expected.has_images:
        return known.name == FileKind.FOLDER.value
    if expected is _MODEL and known.kind is FileKind.FOLDER:
        return True  # the files of other tools lie several folders deep
    if known.kind is FileKind.BUNDLE:
        return False
    if expected.inside == FileKind.CHECKPOINT.name:  # a folder with one file per network
        return next(find_in(path, FileKind.CHECKPOINT, below=False), None) is not None
    is_other = known.fix is not None and next(find_in(path, FileKind.RESULT), None) is None
    return expected.inside == FileKind.RESULT.name and not is_other


def _fix(path: Path, known: KnownPath, expected: Expected) -> str:
    """Return the next command: with a file in the folder, with the path itself, or with another path."""
    from adq_edge.artifacts.file_kinds import BESIDE_ENGINE, FileKind, find_in

    if path.is_dir() and known.kind is FileKind.FOLDER and expected.inside:
        inside = next(find_in(path, FileKind[expected.inside]), None)
        if inside is not None:
            return f"Name one in it: {inside}"
    if known.kind in BESIDE_ENGINE and FileKind.ENGINE.name in expected.kinds:
        return f"Name the engine: {path.with_suffix('')}"
    if known.kind in (FileKind.MODEL, FileKind.MANIFEST) and FileKind.BUNDLE.name in expected.kinds:
        return f"Name its folder: {path.parent}"
    return known.fix or f"Name {expected.noun}"
