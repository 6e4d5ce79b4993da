"""The record of a training: history.csv, TensorBoard's event files, and picture sheets."""

import csv
import io
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from getam.config.experiment import HISTORY
from getam.data.visualisation import draw_sheet, overlay_labels, overlay_map
from getam.training.distributed import Replica
from getam.training.phases import LOSSES, Batch, StepOutput, labelled_fraction
from getam.utils.files import csv_text, write_text
from getam.utils.hardware import peak_resident

_EVENTS = "tensorboard"
COLUMNS = ("step", "epoch", "phase", "rate", "total", *LOSSES, "labelled", "images_per_second", "memory_mib")
_SHEET_COLUMNS = ["image", "saliency", "refined map", "pseudo label", "prediction"]
_SUPERVISED_COLUMNS = ["image", "given label", "prediction"]
_SHEET_ROWS = 4


class History:
    """Rows of history.csv and the same numbers for TensorBoard, written as training proceeds.

    Rows after `step`, left by an interrupted run, are removed; those steps run again.

    Args:
        folder: of the run; events go to its folder `tensorboard`, sheets to `sheets`.
        step: number of steps that are done.
    """

    def __init__(self, folder: Path, step: int):
        self._path = folder / HISTORY
        self._sheets = folder / "sheets"
        kept = [row for row in read_history(folder) if int(row["step"]) <= step]
        write_text(self._path, csv_text([COLUMNS, *([row[key] for key in COLUMNS] for row in kept)]))
        for sheet in self._sheets.glob("step-*.png"):
            if int(sheet.stem.removeprefix("step-")) > step:
                sheet.unlink()
        self._events = SummaryWriter(folder / _EVENTS, purge_step=step + 1)

    def add(self, row: dict[str, float | int | str]) -> None:
        """Appends one row; losses that the phase does not have are left empty."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(csv_text([[row.get(key, "") for key in COLUMNS]]))
        for key, value in row.items():
            if key not in ("step", "phase"):
                self._events.add_scalar(key, value, row["step"])
        self._events.flush()

    def add_sheet(
        self, step: int, names: list[str], batch: Batch, output: StepOutput, classes: tuple[str, ...]
    ) -> Path:
        """Draws the first images of a step: image, saliency and map where there are any, label, prediction."""
        path = self._sheets / f"step-{step:06}.png"
        rows = [_sheet_row(i, names[i], batch, output, classes) for i in range(min(_SHEET_ROWS, len(names)))]
        draw_sheet(path, _SUPERVISED_COLUMNS if output.maps is None else _SHEET_COLUMNS, rows)
        return path

    def close(self) -> None:
        """Closes TensorBoard's file."""
        self._events.close()


class LossMeans:
    """Means of the losses between two rows of the history."""

    def __init__(self, device: torch.device):
        self.device = device
        self.sums = torch.zeros(len(LOSSES) + 1, dtype=torch.float64, device=device)
        self.steps = 0
        self._timed_images, self._since = 0, time.monotonic()

    def add(self, output: StepOutput, images: int) -> None:
        """Adds a step; the sums stay on the device, so that nothing waits for the GPU."""
        losses = [output.losses.get(name) for name in LOSSES]
        labelled = None if output.pixels is None else labelled_fraction(output)
        for i, value in enumerate((*losses, labelled)):
            if value is not None:
                self.sums[i] += value.detach()
        self.steps += 1
        self._timed_images += images

    def close(self, this: Replica, last: StepOutput) -> dict[str, float | str]:
        """The numbers of a row; the sums start from zero again. last: the output of the last step."""
        means = (this.mean(self.sums) / self.steps).tolist()
        now = time.monotonic()
        # Of the joint phase all losses: one without weight is 0.
        of_phase = {"classification": LOSSES[:1], "joint": LOSSES}.get(last.phase, tuple(last.losses))
        named = dict(zip((*LOSSES, "labelled"), means, strict=True))
        row = {"phase": last.phase, "total": sum(means[:-1]), **{name: named[name] for name in of_phase}}
        if last.pixels is not None:
            row["labelled"] = named["labelled"]
        row["images_per_second"] = round(self._timed_images / (now - self._since), 2)
        row["memory_mib"] = round(_memory_mib(self.device))
        self.sums.zero_()
        self.steps, self._timed_images, self._since = 0, 0, now
        return row


def _memory_mib(device: torch.device) -> float:
    """Peak so far of the GPU's memory, or of this process's on the CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_resident()


def read_history(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's history.csv, without a last row that is incomplete; [] if there is no such file."""
    path = folder / HISTORY
    if not path.is_file():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    rows = list(csv.DictReader(io.StringIO(whole)))
    return rows if rows and tuple(rows[0]) == COLUMNS else []


def copy_history(source: Path, folder: Path) -> None:
    """Copies the history of a training to the folder of one that continues from its end."""
    rows = [COLUMNS, *([row[key] for key in COLUMNS] for row in read_history(source))]
    write_text(folder / HISTORY, csv_text(rows))
    if (events := source / _EVENTS).is_dir():
        shutil.copytree(events, folder / _EVENTS, dirs_exist_ok=True)


def _sheet_row(
    i: int, name: str, batch: Batch, output: StepOutput, classes: tuple[str, ...]
) -> tuple[str, list[np.ndarray]]:
    image = _array(batch.image_rgb[i].permute(1, 2, 0))
    present = np.flatnonzero(_array(batch.labels[i]))
    pictures = [image]
    if output.maps is not None:
        pictures += [
            overlay_labels(image, np.where(_array(batch.saliency[i]) > 0, 255, 0).astype(np.uint8)),
            overlay_map(image, _array(output.maps[i].amax(0).float())),
        ]
    pictures += [
        overlay_labels(image, _array(output.pixels[i])),
        overlay_labels(image, _array(output.seg_logits[i].argmax(0)).astype(np.uint8)),
    ]
    return f"{name}: {', '.join(classes[c] for c in present)}", pictures


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()
