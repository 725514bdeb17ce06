"""Training by several processes at once, started by torchrun: who they are and what they exchange."""

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
from adq_edge.training.sync_batch_norm import synchronize_batch_norms

T = TypeVar("T")

_FAILURES = "adq-edge/failures"
_INTERRUPTED = 130


@dataclasses.dataclass(frozen=True)
class ProcessGroup:
    """The processes of one training; one process is a team of its own.

    Attributes:
        rank: this process's number.
        size: how many there are.
        local_size: how many of them share this machine's memory.
        device: where this process computes.
    """

    rank: int
    size: int
    local_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """True for the one process that writes, prints and logs."""
        return self.rank == 0

    def share(self, indices: Sequence[int]) -> Sequence[int]:
        """Return this process's part of a joint batch."""
        return indices[self.rank :: self.size]

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes; a float64 tensor, so that the order does not matter."""
        if self.size > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

    def mean(self, loss: torch.Tensor) -> float:
        """Return the mean over all processes of a scalar."""
        if self.size == 1:
            return float(loss.item())
        return float(self.total(loss.detach().double())) / self.size

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what the first process makes; the others wait for it."""
        if self.size == 1:
            return make()
        box: List[Any] = [make() if self.is_first else None]
        dist.broadcast_object_list(box, src=0)
        return cast(T, box[0])

    def require_same(self, value: Any, what: str) -> None:
        """Refuse a training whose processes were given different things.

        Raises:
            AdqError: `value` is not the first process's.
        """
        if self.from_first(lambda: value) != value:
            raise AdqError(
                f"process {self.rank} has {what} other than process 0's",
                fix="Give every process the same command and the same files",
            )

    def joint(self, step: nn.Module, trained: nn.Module) -> nn.Module:
        """Return `step` such that its gradients are the mean over all processes.

        Args:
            step: maps images to a loss; its random or trained state is the first process's from now on.
            trained: the part of it whose BatchNorms shall see the joint batch.
        """
        if self.size == 1:
            return step
        synchronize_batch_norms(trained, self.device)
        own = set(trained.parameters())
        others = any(weight.requires_grad for weight in step.parameters() if weight not in own)
        return DistributedDataParallel(step, find_unused_parameters=others)

    def equalize(self, module: nn.Module) -> None:
        """Give every process the first process's weights and statistics."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)


_joined: List[ProcessGroup] = []  # this process's: several trainings may follow each other in one team


def is_first_process() -> bool:
    """Return True if this process is the one that prints."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def open_process_group() -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started (RANK and WORLD_SIZE are set), or be alone.

    All end together: the first that fails says so, the others end quietly with the same exit code.

    Raises:
        AdqError: the processes did not find each other, or one of them was lost.
    """
    if _joined:
        yield _joined[0]
        return
    size = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if size == 1:
        yield ProcessGroup(0, 1, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        return
    device = _own_device()
    # Said of every 1x1 convolution; it is about speed, and on a CPU there is nothing to gain.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    store = _join(device)
    _joined.append(ProcessGroup(dist.get_rank(), size, int(os.environ.get("LOCAL_WORLD_SIZE", "1")), device))
    try:
        yield _joined[0]
        dist.barrier()
    except BaseException as error:
        outcome = _outcome(error, _is_first_to_fail(store))
        if device.type == "cpu":  # NCCL would wait for the others
            _leave()
        if outcome is error:
            raise
        raise outcome from error
    finally:
        _joined.clear()
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
            f"process {local} of this machine has no GPU, there are {torch.cuda.device_count()}",
            fix="Start as many processes as there are GPUs: torchrun --nproc-per-node N",
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
            f"the processes of this training did not find each other ({error})",
            fix="Start them with torchrun --nproc-per-node N -m adq_edge train",
        ) from error
    return cast(Store, store)


def _is_first_to_fail(store: Store) -> bool:
    try:
        return bool(store.add(_FAILURES, 1) == 1)
    except (RuntimeError, ValueError):
        return False  # the store ended with the process that held it


def _outcome(error: BaseException, first: bool) -> BaseException:
    """Return what a process ends with: its own error, or a quiet exit after another's."""
    lost = _lost_peer(error)
    if isinstance(error, KeyboardInterrupt) and not first:
        return SystemExit(_INTERRUPTED)
    if (isinstance(error, AdqError) or lost) and not first:
        return SystemExit(AdqError.exit_code)
    if lost:
        return AdqError(
            f"another process of this training was lost ({error})",
            fix="See what ended it, then start again: the training continues after its last complete epoch",
        )
    return error


def _lost_peer(error: BaseException) -> bool:
    words = str(error).lower()
    is_backend = isinstance(error, getattr(dist, "DistBackendError", ()))
    return isinstance(error, RuntimeError) and (is_backend or "gloo" in words or "by peer" in words)
