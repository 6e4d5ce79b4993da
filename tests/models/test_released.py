"""Released checkpoints: every name and shape accounted for."""

import pytest
import torch

from getam import CheckpointError, load_released_checkpoint


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


def test_a_file_of_another_kind():
    with pytest.raises(
        CheckpointError, match=r"not one of the released GETAM checkpoints: its first name is fc\.weight"
    ):
        load_released_checkpoint({"fc.weight": torch.zeros(1)}, "vitb")
