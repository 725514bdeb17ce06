"""adq-edge's engines beside other people's ways to run the same weights: `python -m benchmarks.peers --help`.

Each contender is timed in a process of its own, with a Python interpreter of its own where the user names
one, so that one interleaved run can span virtual environments. Nothing is installed; a peer that is not
found is left out and named. What a worker imports before its peer is of the standard library, and numpy.
"""

from __future__ import annotations
