"""Where a run's pseudo labels are wrong, and which step of label completion made them so.

    python -m benchmarks.studies.label_errors RUN --split val --name voc6

Labels are made as `getam label` makes them. A wrong pixel is attributed to the opening if it was right before it, else
to mining if it was right before that, else to saliency if that takes an object for background or background for an
object, else to the maps, which name another class or none. `mIoU without` is the mIoU of the labels if all errors of
the cause were corrected. Images of one class and of several are analysed apart, too. Pixels are those of the training
crop's view; padding and unknown truth are left out.

Writes benchmarks/results/label_errors-<name>.csv.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.measure import report_table
from benchmarks.studies.paired import groups_of
from getam.constants import BACKGROUND, UNKNOWN
from getam.data.augmentation import View
from getam.data.dataset import Split
from getam.data.hold_out import subset
from getam.data.images import read_mask
from getam.evaluation.labelling import activations
from getam.evaluation.metrics import ConfusionMatrix
from getam.evaluation.run import Run
from getam.evaluation.scores import BACKGROUND_NAME
from getam.method.pamr import normalise_maps, refine_maps
from getam.method.pseudo_labels import complete_labels
from getam.utils.progress import progress

CAUSES = (
    "saliency misses an object",
    "saliency marks background",
    "maps name another class",
    "maps name none",
    "mining",
    "opening",
)


def stages(maps: torch.Tensor, view: View, labels: torch.Tensor, run: Run) -> list[np.ndarray]:
    """Labels (B, S, S) before mining and opening, before opening, and in the end."""
    settings, recipe = run.experiment.maps, run.experiment.recipe
    refined = refine_maps(maps, view.image_rgb.float(), settings.iterations, settings.dilations)
    if recipe.padding == "paper":
        refined = refined * view.valid[:, None]
    normalised = normalise_maps(refined)
    variants = replace(recipe, mining_quantile=1.0, opening=0), replace(recipe, opening=0), recipe
    return [complete_labels(normalised, view.saliency, labels, variant, view.valid)[0].numpy() for variant in variants]


def truth_of(path: Path, view: View) -> np.ndarray:
    """A mask resized to its image's place in the view, by the nearest pixel; 255 on the padding."""
    mask = torch.from_numpy(read_mask(path))[None, None]
    found = torch.full(view.valid.shape, UNKNOWN, dtype=torch.uint8)
    inside = view.unpad(found)
    inside.copy_(F.interpolate(mask, inside.shape, mode="nearest-exact")[0, 0])
    return found.numpy()


def causes(truth: np.ndarray, salient: np.ndarray, first: np.ndarray, mined: np.ndarray, last: np.ndarray):
    """The mask of each of `CAUSES`, in their order; together they are where `last` is wrong."""
    left = last != truth
    by_opening = left & (mined == truth)
    left &= ~by_opening
    by_mining = left & (first == truth)
    left &= ~by_mining
    missed, marked = left & ~salient & (truth != BACKGROUND), left & salient & (truth == BACKGROUND)
    left &= ~missed & ~marked
    return missed, marked, left & (first != UNKNOWN), left & (first == UNKNOWN), by_mining, by_opening


def analyse(run: Run, split: Split) -> list[dict[str, str]]:
    """A line for the labels as they are, and one for each cause."""
    names = (BACKGROUND_NAME, *run.dataset.classes)
    matrices = [ConfusionMatrix(len(names), unknown=True) for _ in range(len(CAUSES) + 1)]
    wrong = np.zeros(len(CAUSES), np.int64)
    batches = activations(run.load_network(torch.device("cpu")), split, split.ids, run.experiment)
    for ids, view, labels, maps in progress(batches, total=-(-len(split.ids) // 4), unit="batch"):
        made = stages(maps, view, labels, run)
        for i, (name, of_image) in enumerate(zip(ids, view.unbatched(), strict=True)):
            truth = truth_of(split.mask(name), of_image)
            counted = truth != UNKNOWN
            truth, salient = truth[counted], of_image.saliency.numpy()[counted] > 0
            first, mined, last = (stage[i][counted] for stage in made)
            matrices[0].update(truth, last)
            for k, mask in enumerate(causes(truth, salient, first, mined, last)):
                wrong[k] += mask.sum()
                matrices[k + 1].update(truth, np.where(mask, truth, last))
    total, without = matrices[0].counts.sum(), [matrix.miou() for matrix in matrices[1:]]
    rows = [{"cause": "all", "wrong pixels, %": f"{100 * wrong.sum() / total:.1f}", "mIoU without": ""}]
    for cause, pixels, miou in zip(CAUSES, wrong, without, strict=True):
        rows.append(
            {
                "cause": cause,
                "wrong pixels, %": f"{100 * pixels / total:.1f}",
                "mIoU without": f"{100 * miou:.1f}",
            }
        )
    return [{**row, "mIoU": f"{100 * matrices[0].miou():.1f}"} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder that `getam train` has written")
    parser.add_argument("--split", default="val")
    parser.add_argument("--name", required=True, help="of the file")
    options = parser.parse_args()
    run = Run(options.run)
    if run.experiment.maps.labels != "completion":
        raise SystemExit(f"{options.run}: its labels are not made by label completion")
    split, rows = run.dataset.split(options.split), []
    for group, chosen in groups_of(split).items():
        images = {name for name, there in zip(split.ids, chosen, strict=True) if there}
        if images:
            found = analyse(run, subset(split, split.name, images))
            rows += [{"images": group, **row, "run": run.experiment.name, "split": split.name} for row in found]
    report_table(f"label_errors-{options.name}", rows)


if __name__ == "__main__":
    main()
