"""Draws a table: a bar for each number, its spread over the seeds, and the published number."""

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import pandas as pd

plt.rcParams["svg.hashsalt"] = "getam"  # else the same drawing is another file each time

table = pd.read_csv(snakemake.input[0])
table = table[table["reproduced"].notna() | table["paper"].notna()].iloc[::-1]
figure, axis = plt.subplots(figsize=(7.5, 0.36 * len(table) + 1.1), layout="constrained")
places = range(len(table))
if table["reproduced"].notna().any():
    bars = axis.barh(places, table["reproduced"], xerr=table["spread"], color="#a9d6e5", ecolor="#1b4965", capsize=3)
    labels = [
        "" if pd.isna(value) else f"{round(value, 1) + 0:.1f}" + ("" if pd.isna(spread) else f" ± {spread:.1f}")
        for value, spread in zip(table["reproduced"], table["spread"], strict=True)
    ]
    axis.bar_label(bars, labels, padding=5)
if table["paper"].notna().any():
    axis.plot(table["paper"], places, "D", color="#c1121f", label="published")
    axis.legend(frameon=False)
axis.axvline(0, color="black", linewidth=0.8)
axis.margins(x=0.25)  # for the labels beside the bars, on both sides where there are negative ones
axis.set_yticks(places, table["row"])
axis.set_xlabel("points of mIoU")
axis.spines[["top", "right"]].set_visible(False)
figure.savefig(snakemake.output[0], metadata={"Date": None})
