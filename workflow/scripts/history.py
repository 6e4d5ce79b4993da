"""Draws the losses of a training over its steps."""

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import pandas as pd

LOSSES = ["classification", "cross_entropy", "saliency"]

history = pd.read_csv(snakemake.params.history)
joint = history.loc[history["phase"] == "joint", "step"].min()
figure, axes = plt.subplots(1, 4, figsize=(16, 3.4), layout="constrained")
for loss in history[LOSSES].dropna(axis="columns", how="all"):
    axes[0].plot(history["step"], history[loss], label=loss.replace("_", " "))
axes[0].set(title="losses", yscale="log")
axes[0].legend(frameon=False)
axes[3].plot(history["step"], history["dense_energy"], color="black")
axes[3].set(title="dense energy, weighted")
axes[1].plot(history["step"], history["rate"], color="black")
axes[1].set(title="learning rate")
axes[2].plot(history["step"], 100 * history["labelled"], color="black")
axes[2].set(title="pixels that the labels name, %", ylim=(0, 100))
for axis in axes:
    if pd.isna(joint):  # one phase alone
        axis.set_xlabel("step")
    else:
        axis.axvline(joint, color="grey", linewidth=0.8, linestyle=":")
        axis.set_xlabel("step (dotted: the joint phase begins)")
    axis.spines[["top", "right"]].set_visible(False)
figure.savefig(snakemake.output[0])
