"""TF32 is allowed or forbidden whichever of torch's interfaces the caller has used, and restored exactly."""

from itertools import permutations

import pytest
import torch

from getam import build_model, predict_probabilities
from getam.models.runtime import tf32_allowed

# torch has two interfaces, and refuses to read the older one where the two contradict each other.
BY_THE_CALLER = [
    "pass",
    "backends.cudnn.allow_tf32 = False",
    "backends.cuda.matmul.allow_tf32 = True",
    "torch.set_float32_matmul_precision('medium')",
    "backends.fp32_precision = 'ieee'",
    "backends.fp32_precision = 'tf32'",
    "backends.cudnn.fp32_precision = 'tf32'",
    "backends.cudnn.conv.fp32_precision = 'ieee'",
    "backends.cuda.matmul.fp32_precision = 'tf32'",
    "backends.mkldnn.matmul.fp32_precision = 'bf16'",
]
GPU, CPU = ("matmul", "conv", "rnn"), ("matmul", "conv", "rnn")


@pytest.fixture(autouse=True)
def defaults():
    """torch's settings of a new process before and after."""
    _reset()
    yield
    _reset()


def _reset():
    for backend, operations in (("generic", ()), ("cuda", GPU), ("mkldnn", CPU)):
        for operation in ("all", *operations):
            torch._C._set_fp32_precision_setter(backend, operation, "none")
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


def precision(backend, *operations):
    return [torch._C._get_fp32_precision_getter(backend, operation) for operation in operations]


def everything():
    found = precision("generic", "all") + precision("cuda", "all", *GPU) + precision("mkldnn", "all", *CPU)
    for read in (
        lambda: torch.backends.cudnn.allow_tf32,
        lambda: torch.backends.cuda.matmul.allow_tf32,
        torch.get_float32_matmul_precision,
    ):
        try:
            found.append(read())
        except RuntimeError:
            found.append("contradicts fp32_precision")
    return found


def set_by_the_caller(settings):
    for setting in settings:
        exec(setting, {"torch": torch, "backends": torch.backends})


@pytest.mark.parametrize("settings", list(permutations(BY_THE_CALLER, 2)), ids="; ".join)
def test_inside_and_afterwards(settings):
    set_by_the_caller(settings)
    before = everything()
    for name in ("float32", "tf32", "bfloat16"):
        with tf32_allowed(name):
            assert precision("cuda", *GPU) == 3 * ["ieee" if name == "float32" else "tf32"], name
            if name == "float32":
                assert precision("mkldnn", *CPU) == 3 * ["ieee"]
        assert everything() == before, name


@pytest.mark.parametrize("later", ["ieee", "tf32"])
@pytest.mark.parametrize("settings", BY_THE_CALLER)
def test_a_later_setting_for_all_backends_counts(settings, later):
    """A switch that followed the setting for all backends before still follows it."""
    found = []
    for enters in (False, True):
        _reset()
        set_by_the_caller([settings])
        if enters:
            for name in ("float32", "tf32"):
                with tf32_allowed(name):
                    pass
        torch.backends.fp32_precision = later
        found.append(everything())
    assert found[0] == found[1]


def test_a_caller_of_the_newer_interface_can_predict():
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    network = build_model("vit_micro_hybrid", 2, decoder_width=8)
    predict_probabilities(network, torch.zeros(32, 32, 3, dtype=torch.uint8), (32,))


def test_restored_after_an_error():
    torch.backends.fp32_precision = "tf32"
    before = everything()
    with pytest.raises(ZeroDivisionError), tf32_allowed("float32"):
        _ = 1 / 0
    assert everything() == before
