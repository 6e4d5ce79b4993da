"""Draws the IoU of each class, with and without CRF, and the confusion matrix."""

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import pandas as pd

SUMMARY = ["mIoU", "frequency weighted IoU", "pixel accuracy", "labelled"]


def iou(path: str) -> pd.Series:
    """Percent, by class."""
    return 100 * pd.read_csv(path, index_col=0).iloc[:, 0]


scores = pd.DataFrame({"with CRF": iou(snakemake.input.iou), "without": iou(snakemake.input.without_crf)})
means, scores = scores.loc["mIoU"], scores.drop(SUMMARY, errors="ignore")
figure, axis = plt.subplots(figsize=(0.36 * len(scores) + 3, 4), layout="constrained")
scores.plot.bar(ax=axis, width=0.8, color=["#2a6f97", "#a9d6e5"])
axis.axhline(means["with CRF"], color="#2a6f97", linewidth=0.8)
axis.set(ylabel="IoU, %", xlabel="", title=f"mIoU {means['with CRF']:.2f}, without CRF {means['without']:.2f}")
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
figure.savefig(snakemake.output.bars)

counts = pd.read_csv(snakemake.input.confusion, index_col=0)
counts = counts.loc[:, counts.any() | counts.columns.isin(counts.index)]
shares = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
side = 0.32 * len(shares) + 2.5
figure, axis = plt.subplots(figsize=(side + 1, side), layout="constrained")
picture = axis.imshow(shares, cmap="viridis", vmin=0, vmax=100)
axis.set_xticks(range(shares.shape[1]), shares.columns, rotation=90)
axis.set_yticks(range(len(shares)), shares.index)
axis.set(xlabel="predicted", ylabel="truth")
figure.colorbar(picture, label="% of the true pixels", shrink=0.8)
figure.savefig(snakemake.output.confusion)
