"""Training in several processes, one for each GPU: torchrun starts them, and gradients are averaged."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

from getam.config.experiment import TRAINING_LOCK
from getam.utils.hardware import choose_device, choose_devices

_PATIENCE = 10  # seconds
_SECONDS = 1  # between two questions
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replica:
    """One of `count` processes that train together, and its device; the first has rank 0, writes files and reports."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def data_parallel(self, phase: nn.Module, all_used: bool) -> nn.Module:
        """The module, with gradients averaged over the replicas in backward.

        all_used: every parameter takes part in the loss; if False, the others keep `grad` None.
        """
        if self.count == 1:
            return phase
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            phase, device_ids=devices, broadcast_buffers=False, find_unused_parameters=not all_used
        )

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, of which there is at least one, whether it is set in any replica."""
        return self.raised(*flags).tolist()

    def raised(self, *flags: bool | Tensor) -> Tensor:
        """The same on the device, bool (flags,), by one collective: the host does not wait for the device."""
        raised = torch.stack(
            [torch.as_tensor(flag, dtype=torch.int32).to(self.device, non_blocking=True) for flag in flags]
        )
        if self.count > 1:
            distributed.all_reduce(raised, distributed.ReduceOp.MAX)
        return raised.bool()

    def barrier(self) -> None:
        """Returns once every replica has come here."""
        self.any(False)  # an all-reduce of no flags would not wait

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over the replicas; it is overwritten."""
        if self.count > 1:
            distributed.all_reduce(values)
            values /= self.count
        return values


@contextmanager
def replica(device: str = "auto") -> Iterator[Replica]:
    """This process as one of those that torchrun has started, or as the only one.

    Args:
        device: `cpu`, `cuda`, `auto`, or, for one process, `cuda:1`; `choose_devices` says which GPUs are taken.

    Raises:
        ValueError: `cuda` was requested, and there are not enough GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Replica(0, 1, choose_device(device))
        return
    store, rank, count = next(distributed.rendezvous("env://"))
    chosen = _device_of_replica(device, store)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    shared = distributed.PrefixStore("training", store)
    distributed.init_process_group(backend, store=shared, rank=rank, world_size=count)
    try:
        yield Replica(rank, count, chosen)
    finally:
        distributed.destroy_process_group()


def _device_of_replica(device: str, store: distributed.Store) -> torch.device:
    """One of the devices that the first process of this machine takes for all processes of this machine."""
    rank, count, machine = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"))
    key = f"devices of machine {machine}"
    if rank == 0:
        store.set(key, " ".join(map(str, choose_devices(device, count))))
    # Every process polls: the first one may wait for free GPUs for hours.
    while not store.check([key]):
        time.sleep(_SECONDS)
    chosen = torch.device(store.get(key).decode().split()[rank])
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    return chosen


@contextmanager
def exclusive(folder: Path, this: Replica) -> Iterator[None]:
    """Allows one training at a time in a folder: when Snakemake is killed, its trainer may still run.

    The lock is the kernel's and ends with the process, however that ends.
    """
    lock = FileLock(folder / TRAINING_LOCK)
    if this.is_main:
        folder.mkdir(parents=True, exist_ok=True)
    # Every process polls, because a collective that blocks for hours would time out.
    while this.any(this.is_main and not _acquired(lock))[0]:
        if this.is_main:
            _log.info("another process trains in %s: waiting for it to end", folder)
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        return False
    return True


def synchronise_batch_norm(network: nn.Module, replica: Replica) -> nn.Module:
    """The network, with batch statistics taken over the images of all replicas."""
    if replica.count == 1:
        return network
    if replica.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for name, module in list(network.named_modules()):
        if type(module) is nn.BatchNorm2d:
            network.set_submodule(name, _CpuSyncBatchNorm.of(module))
    return network


class _CpuSyncBatchNorm(nn.BatchNorm2d):
    """SyncBatchNorm for the CPU, which torch's does not support; every replica must have the same number of pixels."""

    @classmethod
    def of(cls, module: nn.BatchNorm2d) -> "_CpuSyncBatchNorm":
        """Shares the parameters and statistics of `module`."""
        synchronised = cls(module.num_features, module.eps, module.momentum)
        synchronised.__dict__.update(module.__dict__)
        return synchronised

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) of this replica, normalised in training by the statistics of all replicas."""
        if not self.training:
            return super().forward(x)
        replicas = distributed.get_world_size()
        mean = all_reduce(x.mean((0, 2, 3))) / replicas
        centred = x - mean[:, None, None]
        variance = all_reduce(centred.square().mean((0, 2, 3))) / replicas
        count = replicas * x.numel() // x.shape[1]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]
