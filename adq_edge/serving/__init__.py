"""An engine behind HTTP: KServe's open inference protocol v2, and images in, verdicts out."""

from __future__ import annotations
