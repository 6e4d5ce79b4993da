"""Draws some images of a split beside saliency, GETAM's map, pseudo label, prediction and truth."""

from pathlib import Path

import numpy as np
import torch

from getam import explain
from getam.images import read_image, read_mask
from getam.pictures import draw_sheet, heat, painted
from getam.runs import Run

run = Run(Path(snakemake.params.folder))
split = run.dataset.split(snakemake.wildcards.split)
network = run.load_network(torch.device("cpu"))
sizes = run.experiment.inference.sizes
folder, saliency = run.folder / split.name, run.experiment.data.saliency
columns = ["image", *(["saliency"] if saliency else []), "activation", "pseudo label", "prediction"]
columns += ["truth"] if split.masks else []
rows = []
for i in np.linspace(0, len(split) - 1, min(len(split), snakemake.params.images)).astype(int):
    name, image = split.ids[i], read_image(split.image(split.ids[i]))
    present = np.flatnonzero(split.labels[i]).tolist()
    maps = explain(network, image, present, run.experiment.maps.method, size=sizes[len(sizes) // 2])
    pictures = {
        "image": image,
        "activation": heat(image, torch.stack(list(maps.values())).amax(0).numpy()),
        "pseudo label": painted(image, read_mask(folder / "pseudo_labels" / f"{name}.png")),
        "prediction": painted(image, read_mask(folder / "masks" / f"{name}.png")),
    }
    if saliency:
        salient = read_mask(saliency / f"{name}.png") > 0
        pictures["saliency"] = painted(image, np.where(salient, 255, 0).astype(np.uint8))
    if split.masks:
        pictures["truth"] = painted(image, read_mask(split.mask(name)))
    rows.append((f"{name}: {', '.join(run.dataset.classes[c] for c in present)}", [pictures[c] for c in columns]))
draw_sheet(Path(snakemake.output[0]), columns, rows)
