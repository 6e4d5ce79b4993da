"""The commands of the rehearsal of size, in their order: all that it knows of the command line and of the workflow.

Every folder is where the workflow's rules have it, so that Snakemake finds the results of the single commands.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale.archives import COCO_IMAGES, VOC_PARTS

ROOT = Path(__file__).parents[2]
CORES = 2
CONFIGURATION = "scale.json"
VOC_TRAIN = sum(VOC_PARTS[part] for part in ("train+sbd", "train", "sbd"))
VOC_VAL = VOC_PARTS["val+sbd"] + VOC_PARTS["val"]
_GETAM = (sys.executable, "-m", "getam.cli")
_SBD = "benchmark_RELEASE/dataset"
_VOC_ROOT, _COCO_ROOT = "resources/voc/VOCdevkit/VOC2012", "resources/coco"


@dataclass(frozen=True)
class Step:
    """One command, run in the folder of a scale.

    Attributes:
        data: voc or coco.
        name: what the results call it.
        images: that it works on, at scale 1.
        command: its words.
        outputs: files and folders that it writes; they are removed before it.
    """

    data: str
    name: str
    images: int
    command: tuple[str, ...]
    outputs: tuple[str, ...]


def steps(archives: dict[str, Path], whole: bool) -> list[Step]:
    """All steps.

    Args:
        archives: path of each, by its name in config/archives.yaml.
        whole: at scale 1, where the published numbers of images are checked.
    """
    part = () if whole else ("--subset",)
    return [
        *_data_steps(
            "voc",
            [
                _unpack("voc", archives["voc2012_trainval"], sum(VOC_PARTS.values()), "resources/voc"),
                _unpack("voc", archives["sbd"], 11355, "resources/sbd", "cls", "train.txt", "val.txt"),
            ],
            # train is a part of train_aug and is checked once more
            VOC_TRAIN + VOC_VAL + VOC_PARTS["train+sbd"] + VOC_PARTS["train"],
            (_VOC_ROOT, "--sbd", f"resources/sbd/{_SBD}", *part),
            ("train_aug", "val"),
            (VOC_TRAIN, VOC_VAL),
        ),
        _getam("voc", "label val", VOC_VAL, "label", _run("voc"), *_ON_VAL, out=f"{_run('voc')}/val/pseudo_labels"),
        *_snakemake("voc", "table and report", VOC_VAL, "results/voc_val_miou.csv", "results/report.html"),
        *_data_steps(
            "coco",
            [
                _unpack("coco", archives[f"coco2014_{split}"], sum(counts), f"{_COCO_ROOT}/{split}2014")
                for split, counts in COCO_IMAGES.items()
            ]
            + [
                _unpack(
                    "coco",
                    archives["coco2014_annotations"],
                    sum(map(sum, COCO_IMAGES.values())),
                    f"{_COCO_ROOT}/annotations",
                )
            ],
            sum(map(sum, COCO_IMAGES.values())),
            (_COCO_ROOT, *part),
            ("train", "val"),
            (COCO_IMAGES["train"][0], COCO_IMAGES["val"][0]),
        ),
        *_snakemake("coco", "table", 0, "results/coco_val_miou.csv"),
    ]


_ON_VAL = ("--split", "val")


def _getam(data: str, name: str, images: int, *words: str, out: str) -> Step:
    return Step(data, name, images, (*_GETAM, *words), (out,))


def _unpack(data: str, archive: Path, images: int, out: str, *only: str) -> Step:
    into = f"resources/{data}" if data == "coco" else out
    chosen = ("--only", *(f"{_SBD}/{part}" for part in only)) if only else ()
    # Another registry than the default one: the generated archives do not have the published checksums.
    words = (str(archive), "--into", into, *chosen, "--registry", "none.yaml", "--manifest", f"{out}.json")
    return Step(data, f"unpack {archive.name}", images, (*_GETAM, "unpack", *words), (out, f"{out}.json"))


def _data_steps(
    data: str,
    unpacking: list[Step],
    prepared: int,
    source: tuple[str, ...],
    splits: tuple[str, str],
    images: tuple[int, int],
) -> list[Step]:
    """From the archives of a data set to the scores of its network on val."""
    folder, maps, run = f"resources/datasets/{data}", f"resources/saliency/{data}/border", _run(data)
    both, on_val, workers = ("--splits", *splits), sum(images[1:]), ("--workers", str(CORES))
    masks = (f"{run}/val/masks", f"{run}/val/masks_without_crf")
    whole = ("--experiment", json.dumps(experiment(data)))
    return [
        *unpacking,
        _getam(data, "prepare", prepared, "prepare", data, *source, *workers, "--output", folder, out=folder),
        _getam(
            *(data, "saliency", sum(images), "saliency", folder, *both, "--source", "border", *workers),
            *("--output", maps),
            out=maps,
        ),
        _getam(data, "check", sum(images), "check", folder, *both, "--saliency", maps, *workers, out="none"),
        Step(data, "train", 0, (sys.executable, "-m", "benchmarks.scale.one_step", data), (run,)),
        _getam(
            *(data, "predict val", on_val, "predict", run, *_ON_VAL, *whole, "--batch", "32", "--device", "cpu"),
            out=f"{run}/val/probabilities",
        ),
        Step(data, "refine val", on_val, (*_GETAM, "refine", run, *_ON_VAL, *workers), masks),
        _getam(data, "score val", on_val, "score", run, *_ON_VAL, *workers, out=f"{run}/val/iou.csv"),
        _getam(
            *(data, "score val without CRF", on_val, "score", run, *_ON_VAL, *workers, "--what", "masks_without_crf"),
            out=f"{run}/val/iou_without_crf.csv",
        ),
    ]


def _run(data: str) -> str:
    return f"results/experiments/scale_{data}"


def _snakemake(data: str, name: str, images: int, *targets: str) -> list[Step]:
    """The workflow twice: it makes the targets, as all that they need is there, and then finds nothing to do."""
    command = (sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", str(CORES))
    command += ("--configfile", CONFIGURATION, "--", *targets)
    return [Step(data, name, images, command, targets), Step(data, "nothing to be done", 0, command, ())]


def experiment(data: str) -> dict:
    """Settings of a network that is small and trained for one joint step on four images."""
    split = {"voc": "train_aug", "coco": "train"}[data]
    return {
        "name": f"scale_{data}",
        "data": {
            "dataset": f"resources/datasets/{data}",
            "split": split,
            "saliency": f"resources/saliency/{data}/border",
        },
        "network": {
            "backbone": "vit_micro_hybrid",
            "pretrained": False,
            "classifier": "class_token",
            "decoder_width": 16,
        },
        "recipe": {"preset": "paper", "opening": 3},
        "maps": {"dilations": [1, 2], "iterations": 2},
        "training": {
            "crop": 32,
            "batch": 4,
            "epochs": 1,
            "classification": 0.0,
            "optimiser": "adamw",
            "rate": 0.001,
            "weight_decay": 0.01,
        },
        "inference": {"sizes": [32]},
        "crf": {"iterations": 1},
        "monitoring": {"history": 1, "sheet": 0},
    }


def configuration() -> dict:
    """The workflow's configuration, as `--configfile` takes it."""
    entries = {}
    for data in ("voc", "coco"):
        entries[f"scale_{data}"] = {key: value for key, value in experiment(data).items() if key != "name"}
    return {
        "device": "cpu",
        "batch": 32,
        "jobs": {job: {"threads": CORES, "mem_mb": 3000, "runtime": "4h"} for job in ("train", "predict", "refine")},
        # The archives are generated: `fetch` would refuse them.
        "datasets": {
            "voc": {"archives": None, "options": {"sbd": f"resources/sbd/{_SBD}", "subset": True}},
            "coco": {"archives": None, "options": {"subset": True}},
        },
        "saliency_source": "border",
        "experiments": entries,
        "tables": {
            f"{data}_val_miou": {
                "title": "Generated data",
                "rows": [
                    {"row": "masks", "experiment": f"scale_{data}"},
                    {"row": "without CRF", "experiment": f"scale_{data}", "what": "masks_without_crf"},
                ],
            }
            for data in ("voc", "coco")
        },
        "report": ["voc_val_miou"],
    }
