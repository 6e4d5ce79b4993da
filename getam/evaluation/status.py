"""The state of all runs below a folder of results, from their files alone: nothing is written, no network is loaded."""

import csv
import fcntl
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from getam.config.experiment import (
    EXPERIMENT,
    HISTORY,
    PROVENANCE,
    TRAINING_LOCK,
    WEIGHTS,
    Experiment,
    training_digest,
)
from getam.config.first_phase import FIRST_PHASE
from getam.config.tables import MASKS
from getam.config.training import first_joint_step
from getam.data.dataset import DataSet, Split
from getam.evaluation.run import Run
from getam.evaluation.scores import read_summary
from getam.utils import provenance
from getam.utils.files import read_json
from getam.utils.outputs import NOTE

# What the weights depend on: digests by name.
Identity = Callable[[Experiment, DataSet, Split], dict[str, str]]
_SUFFIXES = {"probabilities": ".npz", **dict.fromkeys(MASKS, ".png")}  # of the files in the folders of a split
_RECENT = 120.0  # seconds: files of a job that runs are younger
_TIMED = 50  # files whose dates give the speed


@dataclass
class Training:
    """A training, of a run or of a first phase.

    Attributes:
        state: `finished`, `running`, `stopped` (the same command resumes it), `not begun`, or `wrong` (see problem).
        steps: that are done, as far as the history says.
        total: of all steps; None if the data set is not there.
        phase, loss: of the last row of the history.
        seconds_left: at the speed of that row; None if it is not known. at_least: a slower phase is still to come.
        age: seconds since the last row.
        stale: what the result was made from that is different now.
        problem: why experiment.yaml cannot be read.
    """

    name: str
    state: str
    steps: int = 0
    total: int | None = None
    phase: str = ""
    loss: float | None = None
    seconds_left: float | None = None
    at_least: bool = False
    age: float | None = None
    stale: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass
class Outputs:
    """Files of one kind of a split, such as its masks.

    Attributes:
        done, total: numbers of files; total None if the data set is not there.
        complete: all shards have ended.
        seconds_left: if files are being written.
        miou: in percent, where it has been scored.
        stale: as for `Training`.
    """

    split: str
    kind: str
    done: int
    total: int | None
    complete: bool
    seconds_left: float | None = None
    miou: float | None = None
    stale: list[str] = field(default_factory=list)


def statuses(results: Path, identity: Identity | None = None) -> Iterator[tuple[Training, list[Outputs]]]:
    """The state of every first phase and of every run.

    Args:
        identity: `getam.training.launch.identity_of`, to compare the training data, too: it reads every saliency map.
            None: only settings and code are compared.

    Raises:
        FileNotFoundError: the folder holds neither first phases nor runs.
    """
    folders = [
        path.parent
        for part in ("first_phases", "experiments")
        for path in sorted(results.glob(f"{part}/*/{EXPERIMENT}"))
    ]
    if not folders:
        raise FileNotFoundError(f"{results} holds no runs: expected {results}/experiments/<run>/{EXPERIMENT}")
    for folder in folders:
        try:
            run = Run(folder)
        except ValueError as error:  # of another version, for instance
            yield Training(folder.name, "wrong", problem=str(error)), []
            continue
        try:
            dataset = run.dataset
        except (FileNotFoundError, ValueError):
            dataset = None
        outputs = [] if folder.parent.name == "first_phases" else list(_outputs(run, dataset))
        yield _training(folder, run.experiment, dataset, identity), outputs


def _training(folder: Path, experiment: Experiment, dataset: DataSet | None, identity: Identity | None) -> Training:
    first = folder.parent.name == "first_phases"
    result = folder / (FIRST_PHASE if first else WEIGHTS)
    row = _last_row(folder)
    found = Training(folder.name, "not begun", int(row.get("step", 0)), phase=row.get("phase", ""))
    found.loss = float(row["total"]) if row.get("total") else None
    finished = result.is_file() and (folder / PROVENANCE).is_file()
    if finished:
        made = read_json(folder / PROVENANCE)
        found.state, found.stale = "finished", _differing(made.get("made_from", {}), experiment, dataset, identity)
        found.steps = found.total = made.get("steps", found.steps)
        return found
    if dataset is not None and experiment.data.split in dataset.splits:
        joint = _steps(experiment, len(dataset.split(experiment.data.split)))
        of_first = first_joint_step(experiment.training, joint)
        found.total = of_first if first else joint
        found.at_least = found.steps < of_first < found.total
    found.state = "running" if _is_locked(folder / TRAINING_LOCK) else "stopped" if row else "not begun"
    if row:
        found.age = time.time() - (folder / HISTORY).stat().st_mtime
        speed = float(row["images_per_second"] or 0) / experiment.training.batch
        if found.total is not None and speed > 0 and found.state == "running":
            found.seconds_left = max(0.0, (found.total - found.steps) / speed - found.age)
    return found


def _steps(experiment: Experiment, images: int) -> int:
    """Steps of both phases; the images that are left over in an epoch are not used."""
    training = experiment.training
    return training.steps or training.epochs * (images // training.batch)


def _last_row(folder: Path) -> dict[str, str]:
    """The last whole row of history.csv, or {}."""
    path = folder / HISTORY
    if not path.is_file():
        return {}
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    rows = list(csv.DictReader(io.StringIO(whole)))
    return rows[-1] if rows else {}


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a folder; the kernel frees it when the process ends.

    Asks for a shared lock, for which reading is enough, so that the folder may be another user's.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        return False
    return False


def _differing(
    made_from: dict[str, str], experiment: Experiment, dataset: DataSet | None, identity: Identity | None
) -> list[str]:
    """What the weights were made from that is different now, by the names in provenance.json."""
    if identity is not None and dataset is not None:
        try:
            now = identity(experiment, dataset, dataset.split(experiment.data.split))
        except FileNotFoundError:
            return ["data (a file is missing)"]
    else:
        code = provenance.step_digest("getam.training.launch", *experiment.training_modules())
        now = {"settings": training_digest(experiment), "code": code}
    return [name for name, digest in now.items() if name in made_from and made_from[name] != digest]


def _outputs(run: Run, dataset: DataSet | None) -> Iterator[Outputs]:
    for folder in sorted(path for path in run.folder.glob("*/*") if path.name in _SUFFIXES and (path / NOTE).is_file()):
        split, kind = folder.parent.name, folder.name
        files = [path for path in folder.iterdir() if path.suffix == _SUFFIXES[kind] and not path.name.startswith(".")]
        total = len(dataset.split(split)) if dataset is not None and split in dataset.splits else None
        found = Outputs(split, kind, len(files), total, _is_complete(folder))
        if not found.complete and total is not None:
            found.seconds_left = _seconds_left(files, total)
        score = folder.parent / f"{MASKS[kind]}.csv" if kind in MASKS else None
        if score is not None and score.is_file():
            found.miou = 100 * read_summary(score)["mIoU"]
        found.stale = _stale(run, folder)
        yield found


def _is_complete(folder: Path) -> bool:
    ends = [path.stem.removeprefix("complete-").split("-of-") for path in folder.glob("complete-*-of-*.json")]
    return bool(ends) and len({number for number, _ in ends}) == int(ends[0][1])


def _seconds_left(files: list[Path], total: int) -> float | None:
    """By the dates of the newest files; None if nothing was written lately."""
    dates = sorted(path.stat().st_mtime for path in files)[-_TIMED:]
    if len(dates) < 2 or time.time() - dates[-1] > _RECENT:
        return None
    return (total - len(files)) * (dates[-1] - dates[0]) / (len(dates) - 1)


def _stale(run: Run, folder: Path) -> list[str]:
    """Why files would be recomputed."""
    reasons = [] if (changed := run.changed_since(folder)) is None else [changed]
    # Masks of either device are current.
    current = [run.code_digest(folder.name, on_gpu) for on_gpu in (False, True)]
    return reasons if read_json(folder / NOTE).get("code") in current else [*reasons, "code"]
