"""Reads mutated files, one after the other, in a process with little memory; prints the faults.

    python -m fuzz.child SAMPLES SCRATCH SEED FIRST COUNT

Before each case its number is printed, so that the parent knows which one ended or stopped the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import sys
import traceback
import unicodedata
from pathlib import Path
from typing import Dict

from fuzz.targets import READ, REFUSED, Target, targets

MOST_BYTES = 2 * 2**30
"""Memory that a reader may take beyond that of the loaded libraries."""


def write_case(samples: Path, kinds: Dict[str, Target], folder: Path, seed: str, number: int) -> str:
    """Write the samples of one case into `folder` and return the kind; its mutated file is `folder/case`.

    The case depends on the seed and the number only.
    """
    chance = random.Random(f"{seed}:{number}")
    kind = sorted(kinds)[number % len(kinds)]
    target = kinds[kind]
    name = chance.choice(target.files)
    shutil.copytree(samples / target.folder, folder / target.folder)
    content = (samples / name).read_bytes()
    (folder / name).write_bytes(target.mutate(content, chance))
    (folder / "case").write_text(name)
    return kind


def run_case(target: Target, folder: Path) -> str:
    """Read the mutated file; return READ or REFUSED, or the text of a fault."""
    from adq_edge.core.errors import AdqError

    name = (folder / "case").read_text()
    before, outcome = (folder / name).read_bytes(), READ
    try:
        if target.read(folder, name) is False:
            outcome = REFUSED
    except AdqError as error:
        text = str(error)
        if len(text) > 3000 or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
            return f"message of {len(text)} letters: {text[:200]!r}"
        outcome = REFUSED
    except BaseException:  # KeyboardInterrupt and SystemExit from a reader are faults too
        return traceback.format_exc()
    if not (folder / name).is_file() or (folder / name).read_bytes() != before:
        return "the file was changed"
    return outcome


def main(samples: Path, scratch: Path, seed: str, first: int, count: int) -> None:
    """Run the cases and print a JSON line for each fault."""
    import onnxruntime
    import torch

    from adq_edge.models.registry import METHODS
    from factories.tiny_method import TinyMethod

    del onnxruntime
    torch.set_num_threads(1)
    METHODS[TinyMethod.arch] = TinyMethod  # type: ignore[type-abstract]
    kinds = targets(samples)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    replies = os.fdopen(os.dup(1), "w")
    sys.stdout = sys.stderr
    for number in range(first, first + count):
        folder = scratch / f"case{number}"
        folder.mkdir()
        kind = write_case(samples, kinds, folder, seed, number)
        print(json.dumps({"number": number, "kind": kind}), file=replies, flush=True)
        outcome = run_case(kinds[kind], folder)
        print(json.dumps({"number": number, "kind": kind, "outcome": outcome}), file=replies, flush=True)
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
