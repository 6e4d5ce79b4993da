"""Tiny ONNX networks with the inputs and outputs of a saliency network."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

GAIN = 3.0


def write_network(path: Path, side: int, gain: float = GAIN) -> Path:
    """A network whose first output is the red channel times `gain` and whose second output is the green channel."""

    def constant(name: str, value: int):
        return helper.make_tensor(name, TensorProto.INT64, [1], [value])

    nodes = [
        helper.make_node("Slice", ["image", "start0", "end0", "axis"], ["red"]),
        helper.make_node("Mul", ["red", "gain"], ["saliency"]),
        helper.make_node("Slice", ["image", "end0", "end1", "axis"], ["green"]),
    ]
    numbers = [
        *(constant("start0", 0), constant("end0", 1), constant("end1", 2), constant("axis", 1)),
        helper.make_tensor("gain", TensorProto.FLOAT, [1], [gain]),
    ]
    shape, out = [1, 3, side, side], [1, 1, side, side]
    graph = helper.make_graph(
        nodes,
        "channels",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, out) for name in ("saliency", "green")],
        numbers,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
