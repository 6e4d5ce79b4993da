"""`getam maps`: the mIoU of a run's raw activation maps."""

import argparse

from getam.cli.options import HelpFormatter, add_device, add_experiment, add_reading, add_run, open_run


def add(commands) -> None:
    """Adds `maps` to the commands."""
    parser = commands.add_parser(
        "maps",
        help="mIoU of a split's raw activation maps, at their best threshold",
        description="Cuts the maps of a split, with image labels known, at many thresholds. Writes the scores of the "
        "best one to RUN/<split>/map_iou.csv and the mIoU at each to map_iou_thresholds.csv. The truth chooses the "
        "threshold, so the numbers compare methods only.",
        formatter_class=HelpFormatter,
    )
    add_run(parser)
    add_experiment(parser)
    add_reading(parser)
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from getam.utils.hardware import choose_device

    run, device = open_run(options), choose_device(options.device)
    for split in options.split:
        scores = run.score_maps(split, device, options.batch, options.workers)
        best = scores.best()
        miou = 100 * scores.scores[best].miou()
        print(f"{split}: mIoU {miou:.2f} at threshold {scores.thresholds[best]:.3f}, classes known")
