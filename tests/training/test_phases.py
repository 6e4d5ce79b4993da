"""What is compiled for speed: nothing whose gradient the maps ask for."""

import shutil

import pytest
import torch

from getam import load_experiment
from getam.models.network import build_model
from getam.training.phases import prepare_for_speed

pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler's own

SETTINGS = {
    "name": "e",
    "data": {"dataset": "d", "saliency": None},
    "network": {"backbone": "vit_micro_hybrid", "pretrained": False, "decoder_width": 8},
}
CPU = torch.device("cpu")
OUTSIDE = {"decoder", "squeeze_excite", "segmentation_head"}


def compiled(changes, device=CPU):
    experiment = load_experiment(SETTINGS, changes)
    network = build_model(num_classes=2, pretrained=False, **experiment.network_arguments())
    prepare_for_speed(network, experiment, device)
    return {name for name, module in network.named_modules() if module._compiled_call_impl is not None}


@pytest.mark.parametrize(("method", "start_layer", "blocks"), [("getam", 3, 3), ("getam", 0, 0), ("cam", None, 4)])
def test_blocks_before_the_record(method, start_layer, blocks):
    """CAM asks for no gradient."""
    changes = {"training.compile": True, "maps.method": method, "maps.start_layer": start_layer}
    assert compiled(changes) == OUTSIDE | {f"backbone.vit.blocks.{block}.mlp" for block in range(blocks)}


def test_compile_where_it_is_possible(monkeypatch, caplog):
    fast = {"training.speed": "fast", "maps.start_layer": 0}
    with caplog.at_level("INFO", "getam"):
        assert compiled(fast) == set()
    assert "training.compile: not possible here, without a GPU" in caplog.text
    monkeypatch.setattr("getam.training.phases.find_spec", lambda name: name)
    gpu = torch.device("cuda")
    assert compiled(fast, gpu) == OUTSIDE
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with caplog.at_level("INFO", "getam"):
        assert compiled(fast, gpu) == set()
    assert "training.compile: not possible here, without a C compiler" in caplog.text
