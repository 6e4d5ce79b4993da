"""`getam score`: masks against the truth."""

import argparse
import math
from pathlib import Path

from getam.cli.options import HelpFormatter, add_run, add_workers

_WHAT = {
    "masks": ("masks", "iou"),
    "masks_without_crf": ("masks_without_crf", "iou_without_crf"),
    "pseudo_labels": ("pseudo_labels", "pseudo_label_iou"),
}


def add(commands) -> None:
    """Adds `score` to the commands."""
    parser = commands.add_parser(
        "score",
        help="mIoU of a split's masks",
        description="Compares masks with the truth, in one confusion matrix over the split, and writes IoU per class, "
        "mIoU and pixel accuracy to RUN/<split>/iou.csv.",
        formatter_class=HelpFormatter,
    )
    add_run(parser)
    parser.add_argument("--what", choices=_WHAT, default="masks", help="which of the run's masks")
    parser.add_argument(
        "--masks", type=Path, metavar="FOLDER", help="other masks, <id>.png, scored to iou.csv beside FOLDER"
    )
    add_workers(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from getam.evaluation.run import Run
    from getam.evaluation.scores import score_masks, write_score

    run = Run(options.folder)
    for split in options.split:
        folder, name = _WHAT[options.what]
        masks = options.masks or run.folder / split / folder
        score = score_masks(run.dataset.split(split), run.dataset.classes, masks, options.workers)
        path = write_score(masks.parent, score, "iou" if options.masks else name)
        width = max(map(len, score.classes))
        for category, iou in zip(score.classes, score.iou(), strict=True):
            print(f"{category:<{width}}  {'-' if math.isnan(iou) else f'{100 * iou:5.1f}'}")
        print(", ".join(f"{what} {100 * value:.2f}" for what, value in score.summary().items()))
        print(f"{split}: {len(run.dataset.split(split))} images, written to {path}")
