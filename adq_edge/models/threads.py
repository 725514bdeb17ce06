"""Threads of torch in a container with a CPU limit."""

from __future__ import annotations

import torch

from adq_edge.core.limits import runtime_threads


def limit_torch_threads() -> None:
    """Limit torch to the CPUs that this process may use; torch follows the affinity, but not a CPU quota."""
    threads = runtime_threads()
    if threads is not None and threads < torch.get_num_threads():
        torch.set_num_threads(threads)
