"""Draws the IoU of each class, with and without CRF, and the confusion matrix."""

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

plt.rcParams["svg.hashsalt"] = "getam"  # else the same drawing is another file each time
SUMMARY = ["mIoU", "frequency weighted IoU", "pixel accuracy", "labelled"]


def iou(path: str) -> pd.Series:
    """Percent, by class."""
    return 100 * pd.read_csv(path, index_col=0).iloc[:, 0]


scores = pd.DataFrame({"with CRF": iou(snakemake.input.iou), "without": iou(snakemake.input.without_crf)})
means, scores = scores.loc["mIoU"], scores.drop(SUMMARY, errors="ignore")
# Classes that neither truth nor prediction has are left out.
scores = scores.dropna(how="all").fillna(0).sort_values("with CRF")
figure, axis = plt.subplots(figsize=(8, 0.3 * len(scores) + 1.2), layout="constrained")
scores[["without", "with CRF"]].plot.barh(ax=axis, width=0.8, color=["#a9d6e5", "#2a6f97"])
axis.bar_label(axis.containers[1], fmt="%.0f", padding=3, fontsize=8)
axis.axvline(means["with CRF"], color="#2a6f97", linewidth=0.8)
axis.set(
    xlabel="IoU, %", ylabel="", xlim=(0, 105), title=f"mIoU {means['with CRF']:.2f}, without CRF {means['without']:.2f}"
)
axis.legend(*(list(reversed(parts)) for parts in axis.get_legend_handles_labels()), frameon=False, loc="lower right")
axis.spines[["top", "right"]].set_visible(False)
figure.savefig(snakemake.output.bars, metadata={"Date": None})

counts = pd.read_csv(snakemake.input.confusion, index_col=0)
there = [name for name in counts.index if counts.loc[name].any() or counts[name].any()]
counts = counts.loc[there, [name for name in counts.columns if name in there or counts[name].any()]]
shares = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
few = len(shares) <= 25  # COCO's 81 labels fit the page with a small font, and without numbers
side = min(9, 0.4 * len(shares) + 2.5)
figure, axis = plt.subplots(figsize=(side + 1, side), layout="constrained")
picture = axis.imshow(shares, cmap="viridis", vmin=0, vmax=100)
axis.set_xticks(range(shares.shape[1]), shares.columns, rotation=90, fontsize=9 if few else 5)
axis.set_yticks(range(len(shares)), shares.index, fontsize=9 if few else 5)
if few:
    for (row, column), value in np.ndenumerate(shares.to_numpy()):
        if value >= 5:
            axis.text(
                column,
                row,
                f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="black" if value > 60 else "white",
            )
axis.set(xlabel="predicted", ylabel="truth")
figure.colorbar(picture, label="% of the true pixels", shrink=0.8)
figure.savefig(snakemake.output.confusion, metadata={"Date": None})
