"""Tensors of the pretended GPU, and the counters. Use `tests.helpers.pretended_cuda.begin`."""

import gc
import os
import sys
import threading
from collections import Counter
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

CPU = torch.device("cpu")
# Operators whose result has a value or a size that the host has to read.
_WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal"}
_INDEXING = {"index", "index_put", "index_put_"}
# CUDA takes tensors of the CPU without dimensions in pointwise operators, and in these.
_TAKING_SCALARS = {"where", "masked_fill", "masked_fill_", "_fused_sgd_", "_fused_adamw_", *_INDEXING}
# They allocate or relabel memory and launch nothing, though torch does not call them views.
_WITHOUT_LAUNCH = {"empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided", "_unsafe_view"}
_ATTENTION = "scaled_dot_product_attention"
kernels: Counter = Counter()  # operator -> launches
syncs: Counter = Counter()  # (reason, file:line in getam) -> waits of the host


class Gpu(torch.Tensor):
    """A tensor on cuda:0; `held` is the tensor of the CPU with its values."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            dtype=held.dtype,
            storage_offset=held.storage_offset(),
            layout=held.layout,
            device=torch.device("cuda", 0),
        )

    def __init__(self, held):
        self.held = held

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def __reduce_ex__(self, protocol):  # torch.save
        return self.held.detach().__reduce_ex__(protocol)


class _Mode(TorchDispatchMode):
    """Sees what no Gpu takes part in: tensors that are made on the device, and copies to it."""

    def __enter__(self):
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") comes by; per thread
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def begin() -> None:
    """Replaces what torch asks of a driver, and sees every operation of this thread and of later ones."""
    answers = {
        "_lazy_init": None,
        "is_available": True,
        "device_count": 1,
        "set_device": None,
        "synchronize": None,
        "is_bf16_supported": True,
        "get_device_name": "pretended",
        "get_device_properties": SimpleNamespace(uuid=f"pretended-{os.getpid()}"),
        "max_memory_allocated": 0,
        "manual_seed_all": None,
        "get_rng_state": torch.empty(0, dtype=torch.uint8),
        "set_rng_state": None,
    }
    for name, value in answers.items():
        setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    torch.cuda.memory_allocated = _allocated
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # Module.to makes new parameters
    _library.impl(_ATTENTION, _attend, "AutogradCUDA")
    run = threading.Thread.run

    def in_mode(self):
        with _Mode():
            run(self)

    threading.Thread.run = in_mode
    _Mode().__enter__()


def _allocated(*_) -> int:
    """Bytes of the tensors that are alive."""
    storages = {}
    for held in (x.held for x in gc.get_objects() if type(x) is Gpu and hasattr(x, "held")):
        storages[held.untyped_storage().data_ptr()] = held.untyped_storage().nbytes()
    return sum(storages.values())


def _run(func, args, kwargs):
    name = func._schema.name.split("::")[1]
    flat, _ = tree_flatten((args, kwargs))
    gpu = [x for x in flat if isinstance(x, Gpu)]
    if not gpu and torch.device(kwargs.get("device") or CPU).type == "cpu":
        return func(*args, **kwargs)
    if func.namespace == "getam":  # operators of the package that are registered for CUDA
        return _of_the_package(name, args)
    if name == _ATTENTION:  # in inference mode
        return _FusedAttention.forward(None, *args, **kwargs)
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):  # in inference mode
        with _Mode():
            return func.decompose(*args, **kwargs)
    if any(isinstance(x, torch.Generator) and x.device.type == "cpu" for x in flat):
        raise RuntimeError(f"{func}: a generator of the CPU")
    if name in ("_to_copy", "copy_"):
        return _copy(func, name, args, kwargs)
    _refuse_two_devices(func, name, args, flat)
    if name in _WAITING:
        _note_sync(name)
    if not func.is_view and name not in _WITHOUT_LAUNCH:
        kernels[name] += 1
    return _compute(func, name, args, kwargs, gpu)


class _FusedAttention(torch.autograd.Function):
    """One launch forward and one backward, as CUDA's fused attention; torch's own form on the values held."""

    @staticmethod
    def forward(ctx, query, key, value, mask=None, dropout=0.0, causal=False, *, scale=None, enable_gqa=False):
        kernels[_ATTENTION] += 1
        inputs = [x.held.detach().requires_grad_() for x in (query, key, value)]
        with torch.enable_grad(), torch.inference_mode(False):
            held = getattr(mask, "held", mask)
            y = torch.nn.functional.scaled_dot_product_attention(
                *inputs, held, dropout, causal, scale=scale, enable_gqa=enable_gqa
            )
        if ctx is not None:
            ctx.inputs, ctx.y = inputs, y
        return Gpu(y.detach())

    @staticmethod
    def backward(ctx, gradient):
        kernels[f"{_ATTENTION}_backward"] += 1
        found = torch.autograd.grad(ctx.y, ctx.inputs, gradient.held, retain_graph=True)
        return (*map(Gpu, found), None, None, None)


def _attend(query, key, value, mask=None, dropout=0.0, causal=False, *, scale=None, enable_gqa=False):
    return _FusedAttention.apply(query, key, value, mask, dropout, causal)


_library = torch.library.Library("aten", "IMPL")


def _of_the_package(name, args):
    from getam.lattice import torch_lattice

    with _Mode(), torch.no_grad():
        if name == "bilateral_filter":
            return torch_lattice.bilateral_filter(*args)
        return torch_lattice.mean_field(*args[:5])


def _copy(func, name, args, kwargs):
    source = args[1] if name == "copy_" else args[0]
    wanted = args[0].device if name == "copy_" else torch.device(kwargs.get("device") or source.device)
    without_waiting = wanted.type == "cuda" and kwargs.get("non_blocking")
    if source.device.type != wanted.type and not without_waiting:
        _note_sync(f"copy to {wanted.type}")
    held = getattr(source, "held", source)
    if name == "copy_":
        getattr(args[0], "held", args[0]).copy_(held)
        return args[0]
    out = func(held, **{**kwargs, "device": CPU, "pin_memory": None}).clone()
    return Gpu(out) if wanted.type == "cuda" else out


def _refuse_two_devices(func, name, args, flat) -> None:
    others = [x for x in flat if isinstance(x, torch.Tensor) and not isinstance(x, Gpu)]
    if name in _INDEXING:  # indices may be on the CPU: they are copied
        if isinstance(args[0], Gpu) and any(i is not None and not isinstance(i, Gpu) for i in args[1]):
            _note_sync("index from the CPU")
            others = [x for x in args[2:3] if not isinstance(x, Gpu)]
        if any(i is not None and i.dtype == torch.bool for i in args[1]):
            _note_sync("boolean index")
    for x in others:
        scalars = torch.Tag.pointwise in func.tags or name in _TAKING_SCALARS
        if (x.ndim and not name.startswith("_fused")) or not scalars:
            raise RuntimeError(f"{func}: tensors on cuda:0 and on the CPU, {tuple(x.shape)}")


def _compute(func, name, args, kwargs, gpu):
    if "device" in kwargs:
        kwargs = {**kwargs, "device": CPU, **({"pin_memory": None} if "pin_memory" in kwargs else {})}
    flat, spec = tree_flatten((args, kwargs))
    own = {id(x.held): x for x in gpu}  # in-place operators and out= give back the same tensor
    args, kwargs = tree_unflatten([x.held if isinstance(x, Gpu) else x for x in flat], spec)
    out = _SUBSTITUTES.get(name, func)(*args, **kwargs)
    inference = torch.is_inference_mode_enabled() and not (func.is_view and not gpu[0].is_inference())
    with torch.inference_mode(inference):
        return tree_map(lambda x: own[id(x)] if id(x) in own else Gpu(x) if isinstance(x, torch.Tensor) else x, out)


def _note_sync(reason: str) -> None:
    frame = sys._getframe(2)
    while frame and "/getam/" not in frame.f_code.co_filename:
        frame = frame.f_back
    where = f"{frame.f_code.co_filename.rsplit('/', 1)[1]}:{frame.f_lineno}" if frame else "torch"
    syncs[reason, where] += 1


def _divided(x, y, **options):
    """CUDA multiplies by the rounded reciprocal of a number (BinaryDivTrueKernel.cu)."""
    number = not isinstance(y, torch.Tensor)
    if not options and x.dtype == torch.float32 and x.ndim and number:
        return x * float(torch.tensor(1.0) / torch.as_tensor(float(y)))
    return torch.ops.aten.div(x, y, **options)


def _added(x, dim, index, source, *, alpha=1):
    """CUDA's atomic additions come in any order."""
    order = torch.randperm(len(index), generator=_chance)
    return torch.ops.aten.index_add_(x, dim, index[order], source.index_select(dim, order), alpha=alpha)


_chance = torch.Generator()
# Rounding and order as on CUDA, for the tests of numbers.
_SUBSTITUTES = {"div": _divided, "index_add_": _added} if os.environ.get("PRETENDED_CUDA_ROUNDING") else {}
