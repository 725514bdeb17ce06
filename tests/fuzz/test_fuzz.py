"""Mutated files of every kind that adq-edge reads: each is read, or refused with an `AdqError` of one line.

A reader may take 10 s and 2 GB, and must not change the file. `make fuzz` reads 20,000 files with
a new seed, which takes about 10 minutes on one core. It prints the seed and the files of each fault.
ADQ_EDGE_FUZZ sets the number of files, ADQ_EDGE_FUZZ_SEED the seed, and ADQ_EDGE_FUZZ_KINDS the kinds, such
as "sidecar image".
"""

from __future__ import annotations

import collections
import os
import time
from pathlib import Path

import pytest

from fuzz.runner import run
from fuzz.targets import write_samples

COUNT = int(os.environ.get("ADQ_EDGE_FUZZ", "200"))
SEED = os.environ.get("ADQ_EDGE_FUZZ_SEED", f"{time.time():.0f}" if COUNT > 1000 else "1")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory, tiny_bundle) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, tiny_bundle.path)
    return folder


def test_mutated_files_are_read_or_refused_in_one_line(samples: Path, tmp_path: Path):
    keep = Path(os.environ.get("ADQ_EDGE_FUZZ_KEEP") or tmp_path / "faults").absolute()
    keep.mkdir(parents=True, exist_ok=True)
    print(f"seed {SEED}, {COUNT} files")
    faults, tally = run(samples, keep, SEED, COUNT)
    for kind, outcomes in sorted(tally.items()):
        print(f"{kind}: {dict(outcomes)}")
    kinds = collections.Counter((fault.kind, fault.text.strip().splitlines()[-1]) for fault in faults)
    for (kind, text), count in kinds.most_common():
        first = next(fault for fault in faults if fault.kind == kind and fault.text.strip().endswith(text))
        print(f"\n{count} x {kind}: {text[:300]}\n{first.saved}\n{first.text[-1500:]}")
    assert not faults, f"{len(faults)} faults of {COUNT} files with seed {SEED}"
