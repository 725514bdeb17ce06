"""Compare adq-edge's engines with other ways to run the same weights: `python -m benchmarks.peers --help`.

Each contender is timed in its own process. The user can name a Python interpreter for it, so that one
interleaved run spans several virtual environments. Nothing is installed; peers that are not found are listed.
Before its peer, a worker imports only the standard library and numpy.
"""

from __future__ import annotations
