"""Entry point of `adq-edge` and `python -m adq_edge`; handles signals while the command line loads."""

from __future__ import annotations

from adq_edge.core.start import LoadingCommand

with LoadingCommand():
    from adq_edge.core.interruption import exit_after, raise_on_signals


def main() -> None:
    """Run the command line."""
    try:
        raise_on_signals()
        from adq_edge.cli import main as run

        run()
    except KeyboardInterrupt as interruption:
        exit_after(interruption)


if __name__ == "__main__":
    main()
