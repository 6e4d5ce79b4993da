"""Released checkpoints: every name accounted for, and each kind of wrong file a clear error."""

import os
import pickle

import pytest
import safetensors.torch
import torch

from getam import CheckpointError, load_released_checkpoint
from getam.models.weights import read_state_dict


@pytest.fixture(scope="module")
def distilled(released_state_dict):
    return released_state_dict("deit_distilled")


@pytest.fixture(scope="module")
def distilled_file(distilled, tmp_path_factory):
    path = tmp_path_factory.mktemp("released") / "deit_distilled.pth"
    torch.save(distilled, path)
    return path


def test_from_file_as_from_dictionary(distilled, distilled_file):
    network = load_released_checkpoint(distilled_file, "deit_distilled")
    assert not network.training
    assert torch.equal(network.vit.dist_token, distilled["pretrained.model.dist_token"])
    assert torch.equal(network.classifier.linear.weight, distilled["cls_head.weight"])
    assert torch.equal(network.reassemble["1"].resample.weight, distilled["pretrained.act_postprocess1.4.weight"])


def test_every_tensor_is_used_or_known_to_be_unused(distilled):
    """The network holds a tensor of each shape but those known to be unused; test_golden sees that none is swapped."""
    network = load_released_checkpoint(distilled, "deit_distilled")
    used = {value.data_ptr(): name for name, value in network.state_dict().items()}
    assert len(used) == len(network.state_dict())
    held = sorted(tuple(value.shape) for value in network.state_dict().values())
    unused = ("pretrained.model.norm.", "pretrained.model.head", "scratch.refinenet4.resConfUnit1.")
    expected = sorted(tuple(value.shape) for name, value in distilled.items() if not name.startswith(unused))
    assert held == expected


def test_data_parallel_prefix_and_coco(distilled):
    coco = dict(distilled)
    coco["cls_head.weight"], coco["cls_head.bias"] = torch.zeros(80, 768), torch.ones(80)
    coco["scratch.output_conv.4.weight"], coco["scratch.output_conv.4.bias"] = (
        torch.zeros(81, 256, 1, 1),
        torch.zeros(81),
    )
    network = load_released_checkpoint({f"module.{name}": value for name, value in coco.items()}, "deit_distilled", 80)
    assert torch.equal(network.classifier.linear.bias, torch.ones(80))
    with pytest.raises(CheckpointError, match="has 80 classes, not 20"):
        load_released_checkpoint(coco, "deit_distilled")


def test_another_backbones_file(distilled_file):
    with pytest.raises(
        CheckpointError, match=r"deit_distilled.pth is a checkpoint of deit_distilled, not of vitb_hybrid"
    ):
        load_released_checkpoint(distilled_file, "vitb_hybrid")


def test_names_and_shapes(distilled):
    missing = {name: value for name, value in distilled.items() if name != "cam_module.body.0.bias"}
    with pytest.raises(CheckpointError, match=r"state dict does not fit: it lacks cam_module\.body\.0\.bias"):
        load_released_checkpoint(missing, "deit_distilled")
    with pytest.raises(CheckpointError, match=r"holds unknown aux_head\.weight"):
        load_released_checkpoint({**distilled, "aux_head.weight": torch.zeros(1)}, "deit_distilled")
    with pytest.raises(CheckpointError, match=r"cls_head\.bias \(21,\) where \(20,\) is expected"):
        load_released_checkpoint({**distilled, "cls_head.bias": torch.zeros(21)}, "deit_distilled")
    with pytest.raises(CheckpointError, match=r"holds NaN or infinity in cls_head\.bias"):
        load_released_checkpoint({**distilled, "cls_head.bias": torch.full((20,), torch.nan)}, "deit_distilled")


def test_truncated_file_of_the_old_format(tmp_path):
    torch.save({"x": torch.zeros(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "old.pth").read_bytes()
    for kept in range(len(content)):
        (tmp_path / "half.pth").write_bytes(content[:kept])
        with pytest.raises(CheckpointError, match=r"half\.pth"):
            read_state_dict(tmp_path / "half.pth")


@pytest.mark.parametrize("kept", [0, 10, 1000, 0.5, 0.999])
def test_truncated_file(distilled_file, tmp_path, kept):
    content = distilled_file.read_bytes()
    path = tmp_path / "half.pth"
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"half\.pth"):
        load_released_checkpoint(path, "deit_distilled")


def test_truncated_safetensors(tmp_path):
    path = tmp_path / "half.safetensors"
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(100)})[:-1])
    with pytest.raises(CheckpointError, match=r"half\.safetensors is not a whole safetensors file"):
        load_released_checkpoint(path, "vitb")


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
        load_released_checkpoint(path, "vitb")
    assert not trace.exists()


def test_wrong_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weight file .*none\.pth"):
        load_released_checkpoint(tmp_path / "none.pth", "vitb")
    html = tmp_path / "page.pth"
    html.write_text("<!DOCTYPE html><html>Quota exceeded</html>")
    with pytest.raises(CheckpointError, match=r"page\.pth is not a PyTorch weight file; a web page saved by mistake\?"):
        load_released_checkpoint(html, "vitb")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"list\.pth: expected a dictionary of tensors, found list"):
        load_released_checkpoint(tmp_path / "list.pth", "vitb")
    with pytest.raises(
        CheckpointError, match=r"not one of the released GETAM checkpoints: its first name is fc\.weight"
    ):
        load_released_checkpoint({"fc.weight": torch.zeros(1)}, "vitb")
    with pytest.raises(CheckpointError, match=r"expected only tensors, found 'epoch': int"):
        load_released_checkpoint({"epoch": 3}, "vitb")
