"""Scripts that measure adq-edge; run one as `python -m benchmarks.NAME` in the repository's root."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for the tests' factories
