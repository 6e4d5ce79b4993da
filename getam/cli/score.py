"""`getam score`: masks against the truth."""

import argparse
import math
from pathlib import Path

from getam.cli.options import HelpFormatter, add_run, add_workers
from getam.config.tables import MASKS


def add(commands) -> None:
    """Adds `score` to the commands."""
    parser = commands.add_parser(
        "score",
        help="mIoU of a split's masks",
        description="Compares masks with the truth in one confusion matrix over the split. Writes the IoU of each "
        "class, mIoU and pixel accuracy to RUN/<split>/iou.csv.",
        formatter_class=HelpFormatter,
    )
    add_run(parser)
    parser.add_argument("--what", choices=MASKS, default="masks", help="which of the run's masks")
    parser.add_argument(
        "--masks", type=Path, metavar="FOLDER", help="other masks, <id>.png; the score goes to iou.csv beside FOLDER"
    )
    add_workers(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from getam.evaluation.run import Run
    from getam.evaluation.scores import score_masks, write_score

    run = Run(options.folder)
    for split in options.split:
        if options.masks is None:
            score, path = run.score(split, options.what, options.workers)
        else:
            score = score_masks(run.dataset.split(split), run.dataset.classes, options.masks, options.workers)
            path = write_score(options.masks.parent, score)
        width = max(map(len, score.classes))
        for category, iou in zip(score.classes, score.iou(), strict=True):
            print(f"{category:<{width}}  {'-' if math.isnan(iou) else f'{100 * iou:5.1f}'}")
        print(", ".join(f"{what} {100 * value:.2f}" for what, value in score.summary().items()))
        print(f"{split}: {len(run.dataset.split(split))} images, written to {path}")
