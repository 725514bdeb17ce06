"""`python -m adq_edge`: the same as `adq-edge`."""

from __future__ import annotations

from adq_edge.cli import main

if __name__ == "__main__":
    main()
