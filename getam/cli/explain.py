"""`getam explain`: activation maps of a photograph."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from getam.cli.options import HelpFormatter, add_device
from getam.config.choices import METHODS
from getam.data.images import read_image
from getam.data.visualisation import overlay_map
from getam.utils.checks import suggestion
from getam.utils.files import written
from getam.utils.hardware import choose_device


def add(commands) -> None:
    """Adds `explain` to the commands."""
    parser = commands.add_parser(
        "explain",
        help="pictures of where a network sees classes in a photograph",
        description="Writes <image>-<class>.png for each class: its activation map over the photograph.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("image", type=Path, help="a photograph")
    parser.add_argument(
        "--checkpoint", type=Path, help="run folder or weights of `getam train`; with --timm: weights of that model"
    )
    parser.add_argument("--timm", metavar="NAME", help="a vision transformer of timm with its own head")
    parser.add_argument(
        "--classes", nargs="+", help="names or indices (default: the classes that the network predicts)"
    )
    parser.add_argument("--method", choices=METHODS, default=METHODS[0], help="activation method")
    parser.add_argument("--raw", action="store_true", help="do not refine the maps along the image's edges")
    parser.add_argument("--output", type=Path, default=Path(), metavar="FOLDER", help="where the pictures go")
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from getam.method.explanation import explain

    image = read_image(options.image)
    network, names = _timm_network(options) if options.timm else _own_network(options)
    classes = None if options.classes is None else [_index(name, names) for name in options.classes]
    network = network.to(choose_device(options.device))
    for index, activation in explain(network, image, classes, options.method, refine=not options.raw).items():
        path = options.output / f"{options.image.stem}-{_file_name(index, names)}.png"
        _write_picture(path, overlay_map(image, activation.numpy()))
        print(f"{names[index]}: {path}")


def _own_network(options: argparse.Namespace) -> tuple[nn.Module, list[str]]:
    from getam.config.experiment import WEIGHTS
    from getam.models.saving import load_network

    if options.checkpoint is None:
        raise ValueError("explain: expected --checkpoint, or --timm")
    path = options.checkpoint / WEIGHTS if options.checkpoint.is_dir() else options.checkpoint
    network, classes = load_network(path)
    return network, list(classes)


def _timm_network(options: argparse.Namespace) -> tuple[nn.Module, list[str]]:
    import timm
    from timm.data import ImageNetInfo

    from getam.models.weights import load_exactly, read_state_dict, without_prefix

    if not timm.is_model(options.timm.split(".")[0]):
        raise ValueError(f"timm has no model {options.timm}")
    if options.checkpoint is None:
        network = timm.create_model(options.timm, pretrained=True)
    else:
        state = without_prefix(read_state_dict(options.checkpoint), ("patch_embed.proj.weight",))
        # A fine-tuned network may have any number of classes.
        classes = {"num_classes": len(state["head.weight"])} if "head.weight" in state else {}
        network = timm.create_model(options.timm, **classes)
        load_exactly(network, state, str(options.checkpoint))
    info = ImageNetInfo()
    if network.num_classes != info.num_classes():
        return network, [f"class {i}" for i in range(network.num_classes)]
    return network, [info.index_to_description(i).split(",")[0] for i in range(info.num_classes())]


def _index(name: str, names: list[str]) -> int:
    if name.isdecimal():
        return int(name)
    if name not in names:
        raise ValueError(f"explain: no class {name!r}; {suggestion(name, names)}")
    if names.count(name) > 1:
        indices = " and ".join(str(i) for i, other in enumerate(names) if other == name)
        raise ValueError(f"explain: several classes are called {name!r}; name one by its index: {indices}")
    return names.index(name)


def _file_name(index: int, names: list[str]) -> str:
    """The class as a part of a file name; classes of one name have their index, too."""
    name = names[index].replace(" ", "_").replace("/", "_")
    return f"{name}_{index}" if names.count(names[index]) > 1 else name


def _write_picture(path: Path, picture: np.ndarray) -> None:
    with written(path) as unfinished:
        Image.fromarray(picture).save(unfinished, format="png")
