import csv
import io
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from getam import build_model, load_experiment
from getam.cli.command import main
from getam.data.loading import TrainingImages
from getam.training import image_labels, launch
from getam.training.checkpoints import read_checkpoint
from getam.training.finite import NotFinite
from getam.training.history import COLUMNS
from getam.training.launch import train
from getam.training.phases import Batch, ClassificationPhase, JointPhase, StepOutput
from getam.utils import provenance
from getam.utils.signals import Interrupted

STEPS, FIRST_JOINT = 24, 12  # of small_experiment
REPRODUCIBLE = [column for column in COLUMNS if column not in ("images_per_second", "memory_mib")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_shapes):
    """(settings, run) of a training that nothing has interrupted; filled by the first test that asks."""
    return {"folder": tmp_path_factory.mktemp("finished")}


@pytest.fixture
def uninterrupted(finished, small_experiment):
    if "settings" not in finished:
        train(load_experiment(small_experiment), finished["folder"], workers=0)
        finished["settings"] = small_experiment
    return finished["folder"]


def history(folder):
    with (folder / "history.csv").open() as file:
        return [{key: row[key] for key in REPRODUCIBLE} for row in csv.DictReader(file)]


def assert_same_weights(first, second):
    assert (first / "weights.safetensors").read_bytes() == (second / "weights.safetensors").read_bytes()


def interrupt_at(monkeypatch, step, number=signal.SIGTERM):
    """The signal comes while the images of a step are prepared; steps count from 0."""
    prepare, asked = TrainingImages.__getitem__, []

    def signalling(self, position):
        asked.append(position)
        if len(asked) == 4 * step + 1:
            signal.raise_signal(number)
        return prepare(self, position)

    monkeypatch.setattr(TrainingImages, "__getitem__", signalling)


def test_what_a_run_leaves(uninterrupted, small_experiment):
    assert {path.name for path in uninterrupted.iterdir()} == {
        ".training.lock",
        "experiment.yaml",
        "finished",
        "history.csv",
        "provenance.json",
        "tensorboard",
        "weights.safetensors",
    }
    rows = history(uninterrupted)
    assert [int(row["step"]) for row in rows] == [5, 10, 12, 15, 20, 24]
    assert [row["phase"] for row in rows] == 3 * ["classification"] + 3 * ["joint"]
    for row in rows:
        parts = [row[key] for key in ("classification", "cross_entropy", "saliency", "dense_energy")]
        assert sum(float(part) for part in parts if part) == pytest.approx(float(row["total"]))
        assert all(parts) == (row["phase"] == "joint")
    described = json.loads((uninterrupted / "provenance.json").read_text())
    assert {"settings", "code", "data (list)", "data (saliency)"} <= described["made_from"].keys()
    assert described["versions"]["torch"] == torch.__version__
    assert load_experiment(uninterrupted / "experiment.yaml") == load_experiment(small_experiment)


def test_what_was_removed_of_a_finished_training_comes_back(uninterrupted, small_experiment, tmp_path, caplog):
    """Snakemake removes the outputs of a job that it does not know to have ended."""
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    expected = {name: (folder / name).read_bytes() for name in ("weights.safetensors", "provenance.json")}
    for removed in ({"weights.safetensors"}, {"provenance.json"}, set(expected)):
        for name in removed:
            (folder / name).unlink()
        started = time.time()
        caplog.clear()
        with caplog.at_level("INFO"):
            train(load_experiment(small_experiment), folder, workers=0)
        assert "is there already" in caplog.text
        assert {name: (folder / name).read_bytes() for name in expected} == expected
        # Not older than what Snakemake compares it with.
        assert all((folder / name).stat().st_mtime >= started - 1 for name in removed)


def test_what_is_trained_already_is_left_alone(uninterrupted, small_experiment, caplog):
    before = (uninterrupted / "weights.safetensors").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        train(load_experiment(small_experiment), uninterrupted, workers=0)
    assert (uninterrupted / "weights.safetensors").stat().st_mtime_ns == before
    assert "is there already" in caplog.text


def test_trained_again_on_request(uninterrupted, small_experiment, tmp_path, monkeypatch, caplog):
    """The same request resumes what it has begun; a request without a name always starts from the beginning."""
    caplog.set_level("INFO")
    folder, experiment = tmp_path / "run", load_experiment(small_experiment)
    shutil.copytree(uninterrupted, folder)

    def interrupted(step, **options):
        with monkeypatch.context() as patch:
            interrupt_at(patch, step)
            with pytest.raises(Interrupted, match=f"interrupted after {step + 1} of {STEPS} steps"):
                train(experiment, folder, workers=0, **options)

    interrupted(7, again="first")
    assert not (folder / "weights.safetensors").exists()
    train(experiment, folder, workers=0, again="first")
    assert "resumed after 8 of 24 steps" in caplog.text
    assert_same_weights(uninterrupted, folder)
    written = (folder / "weights.safetensors").stat().st_mtime_ns
    train(experiment, folder, workers=0, again="first")
    assert (folder / "weights.safetensors").stat().st_mtime_ns == written
    for request in ("second", "", ""):
        interrupted(0, again=request)


@pytest.mark.parametrize("step", [0, 1, 7, FIRST_JOINT - 1, FIRST_JOINT, FIRST_JOINT + 1, 17, STEPS - 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_goes_on_bit_for_bit(uninterrupted, small_experiment, tmp_path, monkeypatch, step, number):
    experiment = load_experiment(small_experiment)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, number)
        if step < STEPS - 1:
            with pytest.raises(Interrupted, match=f"interrupted after {step + 1} of {STEPS} steps") as caught:
                train(experiment, tmp_path, workers=0)
            assert caught.value.exit_status == 128 + number
            assert not (tmp_path / "weights.safetensors").exists()
        else:
            train(experiment, tmp_path, workers=0)  # the last step is done anyway
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    train(experiment, tmp_path, workers=0)
    assert_same_weights(uninterrupted, tmp_path)
    assert history(tmp_path) == history(uninterrupted)
    assert not (tmp_path / "checkpoints").exists()


def test_workers_do_not_change_the_result(uninterrupted, small_experiment, tmp_path):
    train(load_experiment(small_experiment), tmp_path, workers=2)
    assert_same_weights(uninterrupted, tmp_path)


def interrupted(experiment, folder, monkeypatch, step):
    with monkeypatch.context() as patch:
        interrupt_at(patch, step - 1)
        with pytest.raises(Interrupted):
            train(experiment, folder, workers=0)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    uninterrupted, small_experiment, tmp_path, monkeypatch, caplog
):
    experiment = load_experiment(small_experiment)
    interrupted(experiment, tmp_path, monkeypatch, 5)
    interrupted(experiment, tmp_path, monkeypatch, 14 - 5)
    first, second = sorted((tmp_path / "checkpoints").iterdir())
    assert (first.name, second.name) == ("000000005.pt", "000000014.pt")
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1
    second.write_bytes(content)
    (first.parent / ".000000020.pt.99").write_bytes(b"a process that was killed while it saved")
    with caplog.at_level("INFO"):
        train(experiment, tmp_path, workers=0)
    assert not first.parent.exists()
    assert f"{second} is damaged" in caplog.text
    assert "resumed after 5 of 24 steps" in caplog.text
    assert_same_weights(uninterrupted, tmp_path)
    assert history(tmp_path) == history(uninterrupted)


def test_of_checkpoints_the_newest_two_are_kept(small_experiment, tmp_path, monkeypatch):
    experiment = load_experiment(small_experiment)
    for step in (3, 3, 3):
        interrupted(experiment, tmp_path, monkeypatch, step)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["000000006.pt", "000000009.pt"]


@pytest.mark.parametrize("what", ["settings", "data (saliency)", "data (list)", "code"])
def test_a_checkpoint_of_something_else_is_refused(small_experiment, small_shapes, tmp_path, monkeypatch, caplog, what):
    folder = tmp_path / "data"
    shutil.copytree(small_shapes, folder)
    small_experiment["data"].update(dataset=str(folder / "dataset"), saliency=str(folder / "saliency"))
    interrupted(load_experiment(small_experiment), tmp_path / "run", monkeypatch, 9)
    changed = load_experiment(small_experiment)
    if what == "settings":
        changed = load_experiment(small_experiment, {"training.rate": 2e-3})
    elif what == "data (saliency)":
        first = min((folder / "saliency").glob("train*.png"))
        shutil.copy(max((folder / "saliency").glob("train*.png")), first)
    elif what == "data (list)":
        changed = load_experiment(small_experiment, {"data.split": "val", "training.epochs": 12})
        monkeypatch.setattr(launch, "training_digest", lambda experiment: "the same")
        interrupted(load_experiment(small_experiment), tmp_path / "run", monkeypatch, 9)
    else:
        monkeypatch.setattr(provenance, "step_digest", lambda module: "another")
    caplog.clear()
    with caplog.at_level("INFO"):
        train(changed, tmp_path / "run", workers=0)
    assert re.search(rf"was made with other .*{re.escape(what)}", caplog.text)
    assert "training starts from the beginning" in caplog.text
    train(changed, tmp_path / "new", workers=0)
    assert_same_weights(tmp_path / "new", tmp_path / "run")
    assert history(tmp_path / "new") == history(tmp_path / "run")


def test_a_loss_that_is_not_finite_stops(uninterrupted, small_experiment, tmp_path, monkeypatch):
    forward, calls = JointPhase.forward, []

    def broken(self, images, batch):
        outcome = forward(self, images, batch)
        calls.append(outcome)
        if len(calls) < 5:  # the first one is the rehearsal
            return outcome
        return StepOutput({**outcome.losses, "saliency": outcome.losses["saliency"] * float("nan")}, *outcome[1:])

    experiment = load_experiment(small_experiment)
    with monkeypatch.context() as patch:
        patch.setattr(JointPhase, "forward", broken)
        with pytest.raises(NotFinite, match=r"step 15 is not finite \(.*saliency nan.*lower training.rate"):
            train(experiment, tmp_path, workers=0)
    train(experiment, tmp_path, workers=0)
    assert_same_weights(uninterrupted, tmp_path)


SAVED_AT_EVERY_STEP = {"monitoring.checkpoint_minutes": 1e-9}


def test_a_step_that_diverges_leaves_the_last_good_checkpoint(uninterrupted, small_experiment, tmp_path, monkeypatch):
    """After one step the weights are 1e30, as after an overflow: they are saved before anyone can notice."""
    update, calls = torch.optim.AdamW.step, []

    def overflowing(self, *arguments, **options):
        update(self, *arguments, **options)
        calls.append(self)
        if len(calls) == 8:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data.mul_(1e30)

    experiment = load_experiment(small_experiment, SAVED_AT_EVERY_STEP)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", overflowing)
        with pytest.raises(NotFinite, match=r"step 8 is not finite .*the checkpoint after 7 steps is kept in"):
            train(experiment, tmp_path, workers=0)
    train(experiment, tmp_path, workers=0)
    assert_same_weights(uninterrupted, tmp_path)


def test_a_training_that_diverges(small_experiment, tmp_path):
    changes = {"training.optimiser": "sgd", "training.weight_decay": None, "training.rate": 1e6}
    with pytest.raises(NotFinite, match="is not finite"):
        train(load_experiment(small_experiment, {**changes, **SAVED_AT_EVERY_STEP}), tmp_path, workers=0)
    for path in (tmp_path / "checkpoints").glob("*.pt"):
        state = read_checkpoint(path, torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)["identity"])
        assert all(value.isfinite().all() for value in state["network"].values())


@pytest.mark.parametrize("step", [7, FIRST_JOINT + 3])
def test_any_error_between_steps_saves_the_state(uninterrupted, small_experiment, tmp_path, monkeypatch, step):
    prepare, asked = TrainingImages.__getitem__, []

    def vanishing(self, position):
        asked.append(position)
        if len(asked) > 4 * step:
            raise OSError("the disk has vanished")
        return prepare(self, position)

    experiment = load_experiment(small_experiment)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingImages, "__getitem__", vanishing)
        with pytest.raises(OSError, match="the disk has vanished"):
            train(experiment, tmp_path, workers=0)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [f"{step:09}.pt"]
    train(experiment, tmp_path, workers=0)
    assert_same_weights(uninterrupted, tmp_path)
    assert history(tmp_path) == history(uninterrupted)


def test_an_error_within_a_step_leaves_no_trace_of_it(uninterrupted, small_experiment, tmp_path, monkeypatch):
    forward, calls = JointPhase.forward, []

    def failing(self, images, batch):
        outcome = forward(self, images, batch)  # updates the statistics of batch normalisation
        calls.append(outcome)
        if len(calls) == 5:
            raise RuntimeError("the driver has gone")
        return outcome

    experiment = load_experiment(small_experiment)
    with monkeypatch.context() as patch:
        patch.setattr(JointPhase, "forward", failing)
        with pytest.raises(RuntimeError, match="the driver has gone"):
            train(experiment, tmp_path, workers=0)
    train(experiment, tmp_path, workers=0)
    assert_same_weights(uninterrupted, tmp_path)


def test_the_joint_phase_is_rehearsed(uninterrupted, small_experiment, tmp_path, monkeypatch):
    """An error that only the joint phase has comes before the first step, and the rehearsal changes no bit."""
    (tmp_path / "plain").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(image_labels, "rehearse_joint_step", lambda *arguments: None)
        train(load_experiment(small_experiment), tmp_path / "plain", workers=0)
    assert_same_weights(uninterrupted, tmp_path / "plain")

    def too_large(*arguments, **options):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory")

    with monkeypatch.context() as patch:
        patch.setattr("getam.training.phases.make_targets", too_large)
        with pytest.raises(MemoryError, match="out of memory .*Without losing trained steps: end other programs"):
            train(load_experiment(small_experiment), tmp_path / "run", workers=0)
    assert not (tmp_path / "run" / "checkpoints").exists()  # no step was trained


def test_a_crop_that_batch_normalisation_cannot_take(small_experiment, tmp_path):
    changes = {"training.crop": 32, "training.batch": 1, "network.backbone": "vit_tiny", "network.pretrained": False}
    with pytest.raises(
        ValueError, match=r"training.crop \(32\) and training.batch \(1 images per process\) are too small"
    ):
        train(load_experiment(small_experiment, changes), tmp_path, workers=0)


def test_a_changed_setting_sets_the_result_aside(uninterrupted, small_experiment, tmp_path, monkeypatch, caplog):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    weights = (folder / "weights.safetensors").read_bytes()
    changed = load_experiment(small_experiment, {"training.rate": 2e-3})
    interrupted(changed, folder, monkeypatch, 9)
    assert (folder / "previous" / "weights.safetensors").read_bytes() == weights
    assert f"the earlier result is set aside in {folder / 'previous'} until this training ends" in caplog.text
    # The old setting again: nothing is lost, and the other training can still resume.
    train(load_experiment(small_experiment), folder, workers=0)
    assert (folder / "weights.safetensors").read_bytes() == weights
    with caplog.at_level("INFO"):
        train(changed, folder, workers=0)
    assert "resumed after 9 of 24 steps" in caplog.text
    assert not (folder / "previous").exists()
    assert (folder / "weights.safetensors").read_bytes() != weights


def test_a_changed_setting_sets_checkpoints_aside(uninterrupted, small_experiment, tmp_path, monkeypatch, caplog):
    changed = load_experiment(small_experiment, {"training.rate": 2e-3})
    interrupted(load_experiment(small_experiment), tmp_path, monkeypatch, 9)
    interrupted(changed, tmp_path, monkeypatch, 3)
    assert [path.name for path in (tmp_path / "previous" / "checkpoints").iterdir()] == ["000000009.pt"]
    with caplog.at_level("INFO"):
        train(load_experiment(small_experiment), tmp_path, workers=0)
    assert "belong to this training: they are used again" in caplog.text
    assert "resumed after 9 of 24 steps" in caplog.text
    assert_same_weights(uninterrupted, tmp_path)
    assert not (tmp_path / "previous").exists()


@pytest.mark.parametrize("what", ["image", "saliency map"])
def test_a_missing_file_is_found_before_training(small_experiment, small_shapes, tmp_path, what):
    folder = tmp_path / "data"
    shutil.copytree(small_shapes, folder)
    small_experiment["data"].update(dataset=str(folder / "dataset"), saliency=str(folder / "saliency"))
    pattern = "dataset/**/train*7.jpg" if what == "image" else "saliency/train*7.png"
    missing = sorted(folder.glob(pattern))[0]
    missing.unlink()
    with pytest.raises(FileNotFoundError, match=f"1 of the 24 .*{missing.name}"):
        train(load_experiment(small_experiment), tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()


def test_too_little_memory_names_the_setting_to_lower(small_experiment, tmp_path, capsys):
    path = tmp_path / "e.json"
    small_experiment["training"].update(crop=2**20)
    path.write_text(json.dumps(small_experiment))
    assert main(["train", str(path), "--output", str(tmp_path / "run"), "--workers", "0"]) == 1
    message = capsys.readouterr().err
    assert "Otherwise lower training.batch (4) or training.crop (1048576)" in message


def test_other_mistakes(small_experiment, tmp_path):
    with pytest.raises(ValueError, match="a step needs 400 images, the split has 24"):
        train(load_experiment(small_experiment, {"training.batch": 400}), tmp_path)
    with pytest.raises(ValueError, match="no split 'trian'; did you mean train?"):
        train(load_experiment(small_experiment, {"data.split": "trian"}), tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="GPU 0 is asked for"):
            train(load_experiment(small_experiment), tmp_path, device="cuda")
    assert [path.name for path in tmp_path.iterdir()] == [".training.lock"]


def test_sheets_and_events(small_experiment, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(load_experiment(small_experiment, {"monitoring.sheet": 8}), tmp_path, workers=0)
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == ["step-000016.png", "step-000024.png"]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("cross_entropy")] == [15, 20, 24]
    totals = [float(row["total"]) for row in history(tmp_path)]
    assert [event.value for event in events.Scalars("total")] == pytest.approx(totals)


def random_batch(size=6, side=32, classes=5):
    generator = torch.Generator().manual_seed(0)
    saliency = torch.rand(size, side, side, generator=generator) < 0.5
    labels = (torch.rand(size, classes, generator=generator) < 0.5).float()
    labels[:, 0] = 1
    images = torch.randint(0, 256, (size, 3, side, side), generator=generator, dtype=torch.uint8)
    return Batch(images, saliency.byte(), torch.ones(size, side, side, dtype=torch.bool), labels)


def test_every_parameter_is_trained_in_its_phase(small_experiment):
    experiment, batch = load_experiment(small_experiment), random_batch()
    network = build_model(
        num_classes=5, pretrained=experiment.network.pretrained, **experiment.network_arguments()
    ).train()
    names = dict(network.named_parameters())
    ClassificationPhase(network, experiment)(batch.network_input, batch).total.backward()
    trained = {name for name, parameter in names.items() if parameter.grad is not None}
    assert {name.split(".")[0] for name in names.keys() - trained} == {
        "reassemble",
        "decoder",
        "squeeze_excite",
        "segmentation_head",
    }
    JointPhase(network, experiment)(batch.network_input, batch).total.backward()
    assert [name for name, parameter in names.items() if parameter.grad is None or not parameter.grad.any()] == []


def test_padding_is_left_out_by_the_papers_recipe_alone(small_experiment):
    experiment, batch = load_experiment(small_experiment, {"training.dense_energy.weight": 0}), random_batch()
    batch.valid[:, :, 20:] = False
    network = build_model(
        num_classes=5, pretrained=experiment.network.pretrained, **experiment.network_arguments()
    ).eval()
    # What lies under the padding must not matter to the labels' losses.
    other = batch._replace(saliency=torch.where(batch.valid, batch.saliency, 255 * torch.ones_like(batch.saliency)))

    def losses(recipe, batch):
        chosen = load_experiment(small_experiment, {"recipe": recipe, "training.dense_energy.weight": 0})
        return JointPhase(network, chosen)(batch.network_input, batch).losses

    paper = {"preset": "paper", "opening": 0}
    for name, loss in losses(paper, batch).items():
        assert torch.equal(loss, losses(paper, other)[name])
    released = {"preset": "released", "opening": 0}
    assert not torch.equal(losses(released, batch)["cross_entropy"], losses(released, other)["cross_entropy"])


@pytest.mark.parametrize("fast", [{"precision": "bfloat16"}, {"channels_last": True}, {"fused_optimiser": True}])
def test_faster_settings_train_alike(uninterrupted, small_experiment, tmp_path, fast):
    train(load_experiment(small_experiment, {f"training.{key}": value for key, value in fast.items()}), tmp_path)
    expected, found = ([float(row["total"]) for row in history(folder)] for folder in (uninterrupted, tmp_path))
    assert found[:3] == pytest.approx(expected[:3], rel=0.02)
    assert found[3:] == pytest.approx(expected[3:], rel=0.1)


def test_fused_sgd_trains_both_phases(small_experiment, tmp_path):
    sgd = {"training.optimiser": "sgd", "training.weight_decay": None, "training.rate": 0.01}
    for fused in (False, True):
        train(load_experiment(small_experiment, {**sgd, "training.fused_optimiser": fused}), tmp_path / str(fused))
    plain, found = ([float(row["total"]) for row in history(tmp_path / name)] for name in ("False", "True"))
    assert found == pytest.approx(plain, rel=0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_training(uninterrupted, small_experiment, tmp_path):
    train(load_experiment(small_experiment, {"training.compile": True}), tmp_path, workers=0)
    expected, found = ([float(row["total"]) for row in history(folder)] for folder in (uninterrupted, tmp_path))
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.slow
def test_ten_kills(small_experiment, tmp_path):
    """SIGKILL and SIGTERM at random moments; the same command goes on, and the weights are the uninterrupted run's."""
    small_experiment["training"]["epochs"] = 60
    small_experiment["monitoring"].update(checkpoint_minutes=0.002, history=20)
    path = tmp_path / "e.json"
    path.write_text(json.dumps(small_experiment))
    chance, done = random.Random(0), 0
    command = [sys.executable, "-m", "getam.cli", "train", str(path), "--workers", "1", "--output"]
    run = tmp_path / "run"
    for kill in range(10):
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen([*command, str(run)], stdout=log, stderr=log)
        reached = lambda: max([int(file.stem) for file in run.glob("checkpoints/[0-9]*.pt")], default=0)  # noqa: E731
        deadline = time.monotonic() + 120
        while reached() <= done and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        number = signal.SIGTERM if kill % 2 else signal.SIGKILL
        assert process.poll() is None, (tmp_path / "log").read_text()
        process.send_signal(number)
        status = process.wait(timeout=60)
        assert status == (143 if number == signal.SIGTERM else -9), (tmp_path / "log").read_text()
        done = reached()
    assert 0 < done < 360
    subprocess.run([*command, str(run)], check=True)
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    assert_same_weights(tmp_path / "whole", run)
    assert history(tmp_path / "whole") == history(run)


def test_one_training_at_a_time_in_a_folder(small_experiment, tmp_path, caplog):
    caplog.set_level("INFO")
    code = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]): print('held', flush=True), sys.stdin.read()"
    path = str(tmp_path / ".training.lock")
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        waited = []

        def end():
            deadline = time.monotonic() + 60
            while "waiting for it to end" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.01)
            waited.append("waiting" in caplog.text and not (tmp_path / "history.csv").exists())
            other.kill()

        helper = threading.Thread(target=end, daemon=True)
        helper.start()
        train(load_experiment(small_experiment), tmp_path, workers=0)
        helper.join()
    assert waited == [True]
    assert (tmp_path / "weights.safetensors").is_file()
