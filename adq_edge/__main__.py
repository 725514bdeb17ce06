"""Entry point of `adq-edge` and `python -m adq_edge`; handles Ctrl-C while the command line loads."""

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
