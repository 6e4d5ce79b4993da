"""Draws some images of a split beside saliency, the run's map, pseudo label, prediction and truth."""

from pathlib import Path

import numpy as np
import torch

from getam import explain
from getam.data.images import read_image, read_mask
from getam.data.visualisation import draw_sheet, label_colours, overlay_labels, overlay_map
from getam.evaluation.run import Run
from getam.evaluation.scores import worst_images

run = Run(Path(snakemake.params.folder))
split = run.dataset.split(snakemake.wildcards.split)
for part in ("masks", "pseudo_labels"):
    run.check_current(run.folder / split.name / part)
network = run.load_network(torch.device("cpu"))
sizes = run.experiment.inference.sizes
how = {
    "method": run.experiment.maps.method,
    "start_layer": run.experiment.start_layer,
    "fusion": run.experiment.maps.fusion,
    "heads": run.experiment.recipe.heads,
}
folder, saliency = run.folder / split.name, run.experiment.data.saliency
columns = ["image", *(["saliency"] if saliency else []), "activation", "pseudo label", "prediction"]
columns += ["truth"] if split.masks else []
chosen = [split.ids[int(i)] for i in np.linspace(0, len(split) - 1, min(len(split), snakemake.params.images))]
worst = worst_images(split, run.dataset.classes, folder / "masks", snakemake.params.worst) if split.masks else []
labels = dict(zip(split.ids, split.labels, strict=True))
rows, seen = [], set()
for name, remark in [*((name, "") for name in chosen), *((name, "of the worst: ") for name in worst)]:
    image, present = read_image(split.image(name)), np.flatnonzero(labels[name]).tolist()
    maps = explain(network, image, present, size=sizes[len(sizes) // 2], **how)
    labelled = {
        "pseudo label": read_mask(folder / "pseudo_labels" / f"{name}.png"),
        "prediction": read_mask(folder / "masks" / f"{name}.png"),
        **({"truth": read_mask(split.mask(name))} if split.masks else {}),
    }
    seen |= {int(label) for mask in labelled.values() for label in np.unique(mask)}
    pictures = {
        "image": image,
        "activation": overlay_map(image, torch.stack(list(maps.values())).amax(0).numpy()),
        **{column: overlay_labels(image, mask) for column, mask in labelled.items()},
    }
    if saliency:
        salient = read_mask(saliency / f"{name}.png") > 0
        pictures["saliency"] = overlay_labels(image, np.where(salient, 255, 0).astype(np.uint8))
    caption = f"{remark}{name}: {', '.join(run.dataset.classes[c] for c in present)}"
    rows.append((caption, [pictures[column] for column in columns]))
draw_sheet(Path(snakemake.output[0]), columns, rows, legend=label_colours(run.dataset.classes, seen))
