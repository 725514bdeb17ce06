"""Training in several processes started by torchrun, and the communication between them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from typing import Any, Callable, Iterator, List, Sequence, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from adq_edge.core.errors import AdqError
from adq_edge.models.threads import limit_torch_threads
from adq_edge.training.sync_batch_norm import synchronize_batch_norms

T = TypeVar("T")

_FAILURES = "adq-edge/failures"
_INTERRUPTED = 130


@dataclasses.dataclass(frozen=True)
class ProcessGroup:
    """The processes of one training; a single process is a group of size 1.

    Attributes:
        rank: this process's number, from 0.
        size: number of processes.
        local_size: number of processes on this machine, which share its memory.
        device: the device of this process.
    """

    rank: int
    size: int
    local_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """True for the one process that prints and writes files."""
        return self.rank == 0

    def share(self, indices: Sequence[int]) -> Sequence[int]:
        """Return this process's part of a joint batch."""
        return indices[self.rank :: self.size]

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes; float64 makes rounding by order negligible."""
        if self.size > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

    def mean(self, loss: torch.Tensor) -> float:
        """Return the mean of a scalar tensor over all processes."""
        if self.size == 1:
            return float(loss.item())
        return float(self.total(loss.detach().double())) / self.size

    def from_first(self, make: Callable[[], T]) -> T:
        """Call `make` in the first process only and return its result in every process."""
        if self.size == 1:
            return make()
        box: List[Any] = [make() if self.is_first else None]
        dist.broadcast_object_list(box, src=0)
        return cast(T, box[0])

    def require_same(self, value: Any, what: str) -> None:
        """Check that this process and the first one have the same value.

        Raises:
            AdqError: the values differ.
        """
        if self.from_first(lambda: value) != value:
            raise AdqError(
                f"process {self.rank} and process 0 have different {what}",
                fix="Give every process the same command and the same files",
            )

    def data_parallel(self, step: nn.Module, trained: nn.Module) -> nn.Module:
        """Return `step` with gradients averaged over all processes.

        Args:
            step: maps images to a loss; it gets the weights and buffers of the first process.
            trained: its trained part; the BatchNorms in it normalize over the joint batch.
        """
        if self.size == 1:
            return step
        synchronize_batch_norms(trained, self.device)
        own = set(trained.parameters())
        others = any(weight.requires_grad for weight in step.parameters() if weight not in own)
        return DistributedDataParallel(step, find_unused_parameters=others)

    def broadcast(self, module: nn.Module) -> None:
        """Copy the first process's weights and buffers to all processes."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)


_opened: List[ProcessGroup] = []  # this process's open group, shared by successive trainings


def is_first_process() -> bool:
    """Return True if this process is the one that prints."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def open_process_group() -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started (RANK and WORLD_SIZE are set), or use a group of size 1.

    All processes end together: the first failure is reported, the others exit silently with the same code.

    Raises:
        AdqError: the processes cannot connect, or another process ended unexpectedly.
    """
    if _opened:
        yield _opened[0]
        return
    size = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if size == 1:
        limit_torch_threads()
        yield ProcessGroup(0, 1, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        return
    device = _own_device()
    # A hint about speed, raised for every 1x1 convolution; it has no effect on a CPU.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    store = _join(device)
    _opened.append(ProcessGroup(dist.get_rank(), size, int(os.environ.get("LOCAL_WORLD_SIZE", "1")), device))
    try:
        yield _opened[0]
        dist.barrier()
    except BaseException as error:
        final = _final_exception(error, _is_first_to_fail(store))
        if device.type == "cpu":  # NCCL would wait for the others
            _leave()
        if final is error:
            raise
        raise final from error
    finally:
        _opened.clear()
    _leave()


def _leave() -> None:
    with contextlib.suppress(RuntimeError):
        dist.destroy_process_group()


def _own_device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise AdqError(
            f"process {local} of this machine has no GPU: GPUs here: {torch.cuda.device_count()}",
            fix="Start one process per GPU: torchrun --nproc-per-node N",
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _join(device: torch.device) -> Store:
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    try:
        store, rank, size = next(rendezvous("env://"))
        dist.init_process_group(backend, store=PrefixStore("adq-edge", store), rank=rank, world_size=size)
    except (RuntimeError, ValueError) as error:
        raise AdqError(
            f"the processes of this training cannot connect to each other ({error})",
            fix="Start them with torchrun --nproc-per-node N -m adq_edge train",
        ) from error
    return cast(Store, store)


def _is_first_to_fail(store: Store) -> bool:
    try:
        return bool(store.add(_FAILURES, 1) == 1)
    except (RuntimeError, ValueError):
        return False  # the process that held the store has ended


def _final_exception(error: BaseException, first: bool) -> BaseException:
    """Return the exception that ends this process: its own error, or a silent exit after another's."""
    lost = _is_peer_lost(error)
    if isinstance(error, KeyboardInterrupt) and not first:
        return SystemExit(_INTERRUPTED)
    if (isinstance(error, AdqError) or lost) and not first:
        return SystemExit(AdqError.exit_code)
    if lost:
        return AdqError(
            f"another process of this training ended unexpectedly ({error})",
            fix="Find its error, then start again: training continues after the last complete epoch",
        )
    return error


def _is_peer_lost(error: BaseException) -> bool:
    words = str(error).lower()
    is_backend = isinstance(error, getattr(dist, "DistBackendError", ()))
    return isinstance(error, RuntimeError) and (is_backend or "gloo" in words or "by peer" in words)
