"""A run: the folder of one experiment (results/experiments/<name>), and the steps after its training.

    experiment.yaml  history.csv  weights.safetensors  provenance.json
    <split>/probabilities/<id>.npz   masks/<id>.png   masks_without_crf/<id>.png   iou.csv   iou_confusion.csv
    <split>/pseudo_labels/<id>.png   pseudo_label_iou.csv   map_iou.csv   map_iou_thresholds.csv
    <split>/masks_known_classes/<id>.png   iou_known_classes.csv

In a folder of many files, settings.json says what they were made from, and complete-<i>-of-<n>.json that shard i of n
is complete.

Every step resumes after an interruption and recomputes outputs whose weights, settings, data or code changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from getam.config.experiment import EXPERIMENT, KNOWN_CLASSES, WEIGHTS, Experiment, training_digest
from getam.config.experiment_file import load_experiment
from getam.config.tables import MASKS
from getam.data.dataset import DataSet, Split, open_dataset
from getam.evaluation.scores import Score, score_masks, write_score
from getam.utils import provenance
from getam.utils.checks import check_choice
from getam.utils.files import check_present, read_json, write_json
from getam.utils.outputs import NOTE, reusable_outputs

# Each step imports its own dependencies: torch and timm take seconds to load, and scores do not need them.
if TYPE_CHECKING:
    import torch

    from getam.evaluation.map_scores import MapScores
    from getam.models.network import SegmentationNetwork


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of the `count` parts of a job: every count-th image."""

    number: int = 1
    count: int = 1

    def __post_init__(self):
        if not 1 <= self.number <= self.count:
            raise ValueError(f"shard: expected 1/{self.count} to {self.count}/{self.count}, got {self}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, ids: tuple[str, ...]) -> tuple[str, ...]:
        """The ids of this part."""
        return ids[self.number - 1 :: self.count]


WHOLE = Shard()
# The modules that write a folder's files, by its name: digests of their code cover these. With a network: its own, too.
_WRITERS = {
    **dict.fromkeys(MASKS, ("getam.evaluation.masks",)),
    "probabilities": ("getam.evaluation.prediction", "getam.models.saving"),
    "pseudo_labels": ("getam.evaluation.labelling", "getam.models.saving"),
}
_OF_NETWORK = ("probabilities", "pseudo_labels")
# The commands that recompute a folder's files, by its name.
_VERBS = {**dict.fromkeys(MASKS, "predict refine"), "pseudo_labels": "label"}


class Run:
    """The folder of an experiment.

    Raises:
        FileNotFoundError: it holds no experiment.yaml.
        ValueError: that file is wrong.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        if not (folder / EXPERIMENT).is_file():
            raise FileNotFoundError(f"{folder} is not a run: it has no {EXPERIMENT}; `getam train` writes one")
        self.experiment: Experiment = load_experiment(folder / EXPERIMENT)
        self.weights = folder / WEIGHTS

    @cached_property
    def dataset(self) -> DataSet:
        """The prepared data set of the experiment."""
        return open_dataset(self.experiment.data.dataset)

    def load_network(self, device: torch.device) -> SegmentationNetwork:
        """The trained network, in eval mode.

        Raises:
            FileNotFoundError: there are no weights yet.
            ValueError: their classes are not the data set's.
        """
        from getam.models.saving import load_network

        network, classes = load_network(self.weights)
        if classes != self.dataset.classes:
            raise ValueError(f"{self.weights} was trained on other classes than those of {self.dataset.folder}")
        return network.to(device)

    def predict(
        self, split_name: str, device: torch.device, shard: Shard = WHOLE, batch: int = 4, workers: int = 0
    ) -> Iterator[Path]:
        """Writes the probabilities of a split's images and yields each path.

        Args:
            batch: images that run through the network at once.
            workers: processes that read images.

        Raises:
            FileNotFoundError: weights or an image are missing.
        """
        from getam.data.dataset import check_images
        from getam.evaluation.prediction import predict_files

        split, settings = self.dataset.split(split_name), self.experiment.inference
        check_images(split)
        network = self.load_network(device)
        folder = self.folder / split_name / "probabilities"
        done = reusable_outputs(
            folder,
            self._made_from(folder, split, self.experiment.digest("inference"), batch, shard),
            ".npz",
        )
        self._manifest(folder, shard).unlink(missing_ok=True)
        ids = shard.of(split.ids)
        finished, waiting = _whole_batches(ids, batch, {name for name in ids if f"{name}.npz" in done})
        yield from (folder / f"{name}.npz" for name in finished)
        scales = (settings.sizes, settings.flip, settings.precision)
        yield from predict_files(network, split, waiting, folder, *scales, batch, workers, settings.fit)
        self._note_end(folder, shard, len(ids))

    def _made_from(self, folder: Path, split: Split, settings: str, batch: int, shard: Shard) -> dict[str, object]:
        from getam.data.digests import images_digest, list_digest

        return {
            "weights": self._weights_digest,
            "settings": settings,
            "list": list_digest(self.dataset, split),
            "images": images_digest(split),
            "code": self.code_digest(folder.name),
            "batch": batch,  # the rounding of sums depends on it
            "shards": shard.count,
        }

    def _manifest(self, folder: Path, shard: Shard) -> Path:
        return folder / f"complete-{shard.number}-of-{shard.count}.json"

    def _note_end(self, folder: Path, shard: Shard, images: int) -> None:
        described = {**read_json(folder / NOTE), "shard": str(shard), "images": images}
        write_json(self._manifest(folder, shard), described)

    @cached_property
    def _weights_digest(self) -> str:
        return provenance.file_digest(self.weights)

    def code_digest(self, kind: str, on_gpu: bool = False) -> str:
        """The digest of the code that writes a folder of this name; of masks by the CRF also that for a GPU."""
        modules = _WRITERS[kind] + (self.experiment.network_modules() if kind in _OF_NETWORK else ())
        return provenance.step_digest(*modules, *(["getam.evaluation.device_masks"] if on_gpu else []))

    def check_current(self, folder: Path) -> None:
        """Follows the notes in a folder of probabilities, masks or pseudo labels back to the weights of the run.

        Raises:
            ValueError: the files were made from other weights or settings than the run has now.
        """
        if (reason := self.changed_since(folder)) is not None:
            commands = " and ".join(f"`getam {verb}`" for verb in _VERBS.get(folder.name, "predict").split())
            raise ValueError(
                f"{folder} is stale: its files were made from other {reason} than the run has now; run {commands}"
            )

    def changed_since(self, folder: Path) -> str | None:
        """What has changed since a folder's files were made: `weights`, `settings`, or None.

        Where the weights are not stored, as in a table rebuilt from predictions, there is nothing to compare with.
        """
        if not (folder / NOTE).is_file() or not self.weights.is_file():
            return None
        note = read_json(folder / NOTE)
        predicted, verbs = note.get("probabilities", note), _VERBS.get(folder.name, "predict")
        expected = training_digest(self.experiment) if verbs == "label" else self.experiment.digest("inference")
        if predicted.get("weights") != self._weights_digest:
            return "weights"
        settings = None, expected, self.experiment.digest("crf")
        return "settings" if predicted.get("settings") != expected or note.get("settings") not in settings else None

    def refine(
        self,
        split_name: str,
        crf: bool = True,
        shard: Shard = WHOLE,
        workers: int = 1,
        discard: bool = False,
        gpu: torch.device | None = None,
        batch: int = 4,
        known_classes: bool = False,
    ) -> Iterator[Path]:
        """Turns probabilities into masks, with the experiment's dense CRF and without; yields one path of each image.

        Args:
            crf: False: only masks without the CRF.
            workers: processes that write masks; with a GPU, threads that read and write.
            discard: remove the probabilities when all masks are written.
            gpu: None: the CRF runs on the CPU. Masks that the other device made are recomputed.
            batch: images of one size at once on the GPU.
            known_classes: only masks with the CRF, to `masks_known_classes`: of each image the background and the
                classes that it is labelled with are possible. Other networks can be taught with them.

        Raises:
            FileNotFoundError: an image has neither masks nor probabilities.
            ValueError: the experiment's CRF has no form for a GPU; or known classes are asked for and the split has no
                image-level labels.
        """
        from getam.data.digests import list_digest
        from getam.evaluation.masks import Job, refine_files

        split = self.dataset.split(split_name)
        source = self.folder / split_name / "probabilities"
        if not (source / NOTE).is_file():
            raise FileNotFoundError(f"no probabilities in {source}; `getam predict` writes them")
        self.check_current(source)
        known = _known_labels(split) if known_classes else {}
        if known_classes:
            kinds = {self.folder / split_name / KNOWN_CLASSES: True}
        else:
            kinds = {self.masks(split_name, kind): kind for kind in ((True, False) if crf else (False,))}
        gpu = gpu if crf else None
        extra = {"labels": list_digest(self.dataset, split)} if known_classes else {}
        done = {folder: self._reusable_masks(folder, kind, source, gpu, extra) for folder, kind in kinds.items()}
        for folder in kinds:
            self._manifest(folder, shard).unlink(missing_ok=True)
        ids = shard.of(split.ids)
        jobs = []
        for name in ids:
            missing = {
                kind: folder / f"{name}.png" for folder, kind in kinds.items() if f"{name}.png" not in done[folder]
            }
            masks = missing.get(True), missing.get(False)
            jobs.append(Job(source / f"{name}.npz", split.image(name), *masks, known.get(name)))
        waiting = [job for job in jobs if job.mask or job.plain]
        needed = [job.probabilities for job in waiting]
        check_present(source, needed, f"probabilities of split {split_name!r}", "`getam predict` writes them")
        first = next(iter(kinds))
        yield from (first / f"{name}.png" for name, job in zip(ids, jobs, strict=True) if not (job.mask or job.plain))
        settings = self.experiment.crf.settings()
        if gpu is None:
            yield from refine_files(waiting, settings, workers)
        else:
            from getam.evaluation.device_masks import refine_files_on_device

            yield from refine_files_on_device(waiting, settings, gpu, batch, workers)
        for folder in kinds:
            self._note_end(folder, shard, len(ids))
        if discard:
            for job in jobs:
                job.probabilities.unlink(missing_ok=True)

    def _reusable_masks(
        self, folder: Path, crf: bool, source: Path, gpu: torch.device | None, extra: dict[str, str]
    ) -> set[str]:
        made_from = {
            "probabilities": read_json(source / NOTE),
            "settings": self.experiment.digest("crf") if crf else None,
            "code": self.code_digest(folder.name, on_gpu=crf and gpu is not None),
            **extra,
        }
        return reusable_outputs(folder, made_from, ".png")

    def masks(self, split_name: str, crf: bool = True) -> Path:
        """The folder that `refine` writes to."""
        return self.folder / split_name / ("masks" if crf else "masks_without_crf")

    def label(
        self, split_name: str, device: torch.device, shard: Shard = WHOLE, batch: int = 4, workers: int = 0
    ) -> Iterator[Path]:
        """Writes the pseudo labels of a split with image labels and yields each path; arguments as for `predict`."""
        from getam.data.digests import training_data_digests
        from getam.evaluation.labelling import label_files

        split = self.dataset.split(split_name)
        self._check_maps()
        network = self.load_network(device)
        folder = self.pseudo_labels(split_name)
        made_from = self._made_from(folder, split, training_digest(self.experiment), batch, shard)
        made_from |= training_data_digests(self.dataset, split, self.experiment.data.saliency)
        made_from["precision"] = self.experiment.inference.precision
        done = reusable_outputs(folder, made_from, ".png")
        self._manifest(folder, shard).unlink(missing_ok=True)
        ids = shard.of(split.ids)
        finished, waiting = _whole_batches(ids, batch, {name for name in ids if f"{name}.png" in done})
        yield from (folder / f"{name}.png" for name in finished)
        yield from label_files(network, split, waiting, folder, self.experiment, batch, workers)
        self._note_end(folder, shard, len(ids))

    def score_maps(self, split_name: str, device: torch.device, batch: int = 4, workers: int = 0) -> MapScores:
        """Scores a split's raw maps at many thresholds and writes <split>/map_iou.csv; arguments as for `predict`."""
        from getam.data.dataset import check_images
        from getam.evaluation.map_scores import score_maps, write_map_scores

        split = self.dataset.split(split_name)
        self._check_maps()
        check_images(split)
        network = self.load_network(device)
        scores = score_maps(network, split, self.dataset.classes, self.experiment, batch, workers)
        write_map_scores(self.folder / split_name, scores)
        return scores

    def _check_maps(self) -> None:
        if not self.experiment.has_maps:
            network = self.experiment.network.name
            raise ValueError(f"{self.folder}: {network} has no activation maps, and so no pseudo labels")

    def pseudo_labels(self, split_name: str) -> Path:
        """The folder that `label` writes to."""
        return self.folder / split_name / "pseudo_labels"

    def score(self, split_name: str, what: str = "masks", workers: int = 1) -> tuple[Score, Path]:
        """Compares masks of the run with the truth and writes <split>/<name>.csv and <name>_confusion.csv.

        Args:
            what: a key of `getam.config.tables.MASKS`, which names the file.
            workers: processes that read masks.

        Returns:
            the score, and the path of the first file.

        Raises:
            FileNotFoundError: a mask is missing.
            ValueError: the split has no truth, a mask does not fit its image, or the masks are stale.
        """
        check_choice("what", what, tuple(MASKS))
        folder = self.folder / split_name
        self.check_current(folder / what)
        score = score_masks(self.dataset.split(split_name), self.dataset.classes, folder / what, workers)
        return score, write_score(folder, score, MASKS[what])


def _known_labels(split: Split) -> dict[str, tuple[int, ...]]:
    """id -> the background and the labels of the image's classes. Raises a ValueError if they are not known."""
    if split.labels is None:
        raise ValueError(f"split {split.name!r} has no image-level labels: the classes of its images are not known")
    return {
        name: (0, *(int(c) + 1 for c in of_image.nonzero()[0]))
        for name, of_image in zip(split.ids, split.labels, strict=True)
    }


def _whole_batches(ids: Sequence[str], batch: int, done: set[str]) -> tuple[list[str], list[str]]:
    """Ids of the finished batches, and of the others.

    A batch with a missing file runs as a whole: rounding depends on the batch that an image is in, and files must not
    depend on when a job was interrupted.
    """
    finished: list[str] = []
    waiting: list[str] = []
    for start in range(0, len(ids), batch):
        of_batch = ids[start : start + batch]
        (finished if done.issuperset(of_batch) else waiting).extend(of_batch)
    return finished, waiting
