"""What `adq-edge` and `python -m adq_edge` run: the command line, and its end while it is still loading."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from adq_edge.cli import main as run
    except KeyboardInterrupt:
        print("adq-edge: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
