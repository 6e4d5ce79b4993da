"""Weight files of any origin: each kind of wrong file is a clear error, and none runs code."""

import argparse
import datetime
import os
import pickle

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from getam import CheckpointError
from getam.models.weights import as_state_dict, load_exactly, read_state_dict


def test_truncated_file_of_the_old_format(tmp_path):
    torch.save({"x": torch.zeros(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "old.pth").read_bytes()
    for kept in range(len(content)):
        (tmp_path / "half.pth").write_bytes(content[:kept])
        with pytest.raises(CheckpointError, match=r"half\.pth"):
            read_state_dict(tmp_path / "half.pth")


@pytest.mark.parametrize("kept", [0, 10, 1000, 0.5, 0.999])
def test_truncated_file(tmp_path, kept):
    torch.save({"x": torch.zeros(3000)}, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    path = tmp_path / "half.pth"
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"half\.pth"):
        read_state_dict(path)


def test_truncated_safetensors(tmp_path):
    path = tmp_path / "half.safetensors"
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(100)})[:-1])
    with pytest.raises(CheckpointError, match=r"half\.safetensors is not a whole safetensors file"):
        read_state_dict(path)


class _RunsCode:
    def __init__(self, trace: str):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_pickle_that_wants_to_run_code(tmp_path, save):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    save({"cls_head.weight": _RunsCode(str(trace))}, path)
    with pytest.raises(CheckpointError, match=r"evil\.pth is refused: it holds more than tensors"):
        read_state_dict(path)
    assert not trace.exists()


def test_wrong_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weight file .*none\.pth"):
        read_state_dict(tmp_path / "none.pth")
    html = tmp_path / "page.pth"
    html.write_text("<!DOCTYPE html><html>Quota exceeded</html>")
    with pytest.raises(CheckpointError, match=r"page\.pth is not a PyTorch weight file; a web page saved by mistake\?"):
        read_state_dict(html)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"list\.pth: expected a dictionary of tensors, found list"):
        read_state_dict(tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"expected only tensors, found 'epoch': int"):
        as_state_dict({"epoch": 3}, "state dict")


def vit(**options):
    return timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=5, **options)


WRAPPED = {
    "model": lambda state: {"model": state, "epoch": 3},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": 0.1}},
    "state_dict_ema": lambda state: {"state_dict": {"other": torch.zeros(1)}, "state_dict_ema": state},
    "model_ema": lambda state: {"model": {"other": torch.zeros(1)}, "model_ema": state},
    "module": lambda state: {"module." + name: value for name, value in state.items()},
    "compiled": lambda state: {"state_dict": {"_orig_mod.module." + name: value for name, value in state.items()}},
    "lightning": lambda state: {
        "state_dict": {"model." + name: value for name, value in state.items()},
        "pytorch-lightning_version": "2.4",
        "epoch": 7,
    },
    "namespace": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1, names=["a"])},
    "numpy scalars": lambda state: {"model": state, "best": np.float64(0.7), "epoch": np.int64(3)},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers(tmp_path, kind):
    torch.manual_seed(0)
    saved, loaded = vit(), vit()
    torch.save(WRAPPED[kind](saved.state_dict()), tmp_path / "w.pth")
    load_exactly(loaded, read_state_dict(tmp_path / "w.pth"), "w.pth")
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_a_prefix_is_removed_only_if_the_rest_fits(tmp_path):
    state = {"encoder." + name: value for name, value in vit().state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"w.pth does not fit: it lacks cls_token.*holds unknown encoder\.cls_token"
    ):
        load_exactly(vit(), {**state, "decoder.weight": torch.zeros(1)}, "w.pth")


def test_objects_that_could_run_code(tmp_path):
    torch.save({"model": vit().state_dict(), "when": datetime.date(2021, 1, 1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"is refused.*If you trust it, save its tensors alone: torch.save\("):
        read_state_dict(tmp_path / "w.pth")
