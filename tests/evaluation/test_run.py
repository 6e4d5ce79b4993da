"""From an experiment's file to its numbers, by the command line."""

import csv
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors import safe_open

from getam import (
    activation_maps,
    build_model,
    complete_labels,
    dense_crf,
    load_experiment,
    load_network,
    normalise_images,
    normalise_maps,
    open_dataset,
    refine_maps,
)
from getam.cli.command import main
from getam.config.experiment_file import write_experiment
from getam.data.images import read_image, read_mask
from getam.evaluation.probabilities import read_probabilities
from getam.evaluation.run import Run, Shard
from getam.models.saving import save_network
from getam.training.launch import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def run(trained, small_experiment, tmp_path):
    """A run of its own, trained."""
    if not any(trained.iterdir()):
        train(load_experiment(small_experiment), trained, workers=0)
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def command(*arguments):
    assert main([str(argument) for argument in arguments]) == 0


def written_since(before, folder):
    return {path.name for path in folder.iterdir() if before.get(path.name) != path.stat().st_mtime_ns}


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_the_whole_chain(run, small_shapes, capsys):
    command("predict", run, "--split", "val", "test", "--device", "cpu")
    command("refine", run, "--split", "val", "--workers", 1)
    command("score", run, "--split", "val", "--workers", 1)
    command("score", run, "--split", "val", "--what", "masks_without_crf", "--workers", 1)
    split = open_dataset(small_shapes / "dataset").split("val")
    for name in split.ids:
        probabilities = read_probabilities(run / "val" / "probabilities" / f"{name}.npz")
        raw = read_mask(run / "val" / "masks_without_crf" / f"{name}.png")
        assert np.array_equal(raw, probabilities.argmax(0))
        refined = dense_crf(read_image(split.image(name)), torch.from_numpy(probabilities)).argmax(0)
        assert np.array_equal(read_mask(run / "val" / "masks" / f"{name}.png"), refined)
    rows = dict(list(csv.reader((run / "val" / "iou.csv").read_text().splitlines()))[1:])
    assert f"mIoU {100 * float(rows['mIoU']):.2f}" in capsys.readouterr().out
    assert (run / "val" / "iou_without_crf.csv").is_file()
    assert len(list((run / "test" / "probabilities").glob("*.npz"))) == 5


def test_masks_without_the_crf_alone(run):
    command("predict", run, "--split", "val")
    command("refine", run, "--split", "val", "--without-crf", "--workers", 1)
    assert {path.name for path in (run / "val").iterdir() if path.is_dir()} == {"probabilities", "masks_without_crf"}
    plain = times(run / "val" / "masks_without_crf")
    command("refine", run, "--split", "val", "--workers", 1)
    assert written_since(plain, run / "val" / "masks_without_crf") == {"complete-1-of-1.json"}
    # Of an image that has lost one of its masks, that one is made.
    first = sorted((run / "val" / "masks_without_crf").glob("*.png"))[0]
    content = first.read_bytes()
    first.unlink()
    plain, masks = times(run / "val" / "masks_without_crf"), times(run / "val" / "masks")
    command("refine", run, "--split", "val", "--workers", 1, "--discard")
    assert first.read_bytes() == content
    assert written_since(plain, first.parent) == {first.name, "complete-1-of-1.json"}
    assert written_since(masks, run / "val" / "masks") == {"complete-1-of-1.json"}
    assert not list((run / "val" / "probabilities").glob("*.npz"))


def test_masks_of_images_whose_classes_are_known(run, capsys):
    command("predict", run, "--split", "val")
    command("refine", run, "--split", "val", "--known-classes", "--workers", 1)
    folder, split = run / "val" / "masks_known_classes", Run(run).dataset.split("val")
    assert {path.name for path in (run / "val").iterdir() if path.is_dir()} == {"probabilities", folder.name}
    for name, labels in zip(split.ids, split.labels, strict=True):
        probabilities = read_probabilities(run / "val" / "probabilities" / f"{name}.npz").astype(np.float64)
        possible = np.array([1, *labels])[:, None, None] * probabilities
        given = torch.from_numpy(possible / possible.sum(0)).float()
        mask = read_mask(folder / f"{name}.png")
        assert np.array_equal(mask, dense_crf(read_image(split.image(name)), given).argmax(0))
        assert set(np.unique(mask)) <= {0, *(labels.nonzero()[0] + 1)}
    capsys.readouterr()
    command("score", run, "--split", "val", "--what", "masks_known_classes", "--workers", 1)
    assert (run / "val" / "iou_known_classes.csv").is_file()
    # They stay, unless labels of the images are others; and the masks for scores are others.
    before = times(folder)
    command("refine", run, "--split", "val", "--known-classes", "--workers", 1)
    assert written_since(before, folder) == {"complete-1-of-1.json"}
    with pytest.raises(SystemExit):
        main(["refine", str(run), "--split", "val", "--known-classes", "--without-crf"])


def test_shards_share_the_images(run):
    for number in (1, 2, 3):
        command("predict", run, "--split", "val", "--shard", f"{number}/3")
    parts = [Shard(number, 3).of(Run(run).dataset.split("val").ids) for number in (1, 2, 3)]
    assert sorted(sum(parts, ())) == sorted(Run(run).dataset.split("val").ids)
    folder = run / "val" / "probabilities"
    assert {path.stem for path in folder.glob("*.npz")} == set(sum(parts, ()))
    assert len(list(folder.glob("complete-*-of-3.json"))) == 3
    with pytest.raises(SystemExit):
        main(["predict", str(run), "--split", "val", "--shard", "4/3"])


def test_masks_of_another_device_are_recomputed(run):
    """Those without the CRF are the same on both."""
    command("predict", run, "--split", "val")
    on_cpu = list(Run(run).refine("val"))
    without_crf, masks = (times(run / "val" / kind) for kind in ("masks_without_crf", "masks"))
    device = torch.device("cpu")  # in place of a GPU
    for expected in (len(on_cpu), 0):
        list(Run(run).refine("val", gpu=device, batch=2))
        assert len([name for name in written_since(masks, run / "val" / "masks") if name.endswith(".png")]) == expected
        masks = times(run / "val" / "masks")
    assert not [name for name in written_since(without_crf, run / "val" / "masks_without_crf") if name.endswith(".png")]
    command("score", run, "--split", "val")


@pytest.mark.parametrize("step", ["predict", "refine", "label"])
def test_what_is_there_stays_and_what_is_missing_is_made(run, step):
    command("predict", run, "--split", "val")
    command(step, run, "--split", "val")
    folder = run / "val" / {"predict": "probabilities", "refine": "masks", "label": "pseudo_labels"}[step]
    files = sorted(path for path in folder.iterdir() if path.suffix in (".npz", ".png"))
    contents = [file.read_bytes() for file in files]
    files[0].unlink()
    before = times(folder)
    command(step, run, "--split", "val")
    batch = 1 if step == "refine" else 4
    assert written_since(before, folder) == {*(file.name for file in files[:batch]), "complete-1-of-1.json"}
    assert [file.read_bytes() for file in files] == contents


def test_other_weights_make_everything_anew(run, small_experiment):
    for step in ("predict", "refine"):
        command(step, run, "--split", "val")
    probabilities, masks = times(run / "val" / "probabilities"), times(run / "val" / "masks")
    train(load_experiment(small_experiment, {"seed": 1}), run, workers=0)
    with pytest.raises(FileNotFoundError):
        Run(run.parent / "none")
    for step in ("predict", "refine"):
        command(step, run, "--split", "val")
    assert len(written_since(probabilities, run / "val" / "probabilities") - {"settings.json"}) == 10
    assert len(written_since(masks, run / "val" / "masks") - {"settings.json"}) == 10


def test_files_of_earlier_weights_are_refused(run, small_experiment, tmp_path, capsys):
    split = ("--split", "val")
    command("predict", run, *split, "--device", "cpu")
    command("refine", run, *split)
    command("label", run, *split, "--device", "cpu")
    command("score", run, *split)
    command("score", run, *split, "--what", "pseudo_labels")
    train(load_experiment(small_experiment, {"seed": 1}), run, workers=0)
    capsys.readouterr()
    stale = "is stale: its files were made from other weights than the run has now; run `getam {}`"
    for arguments, verbs in (
        (["refine", run, *split], "predict"),
        (["score", run, *split], "predict` and `getam refine"),
        (["score", run, *split, "--what", "masks_without_crf"], "predict` and `getam refine"),
        (["score", run, *split, "--what", "pseudo_labels"], "label"),
        (["submit", run, *split, "--output", tmp_path / "a.tar.gz"], "predict` and `getam refine"),
    ):
        assert main([str(argument) for argument in arguments]) == 1, arguments
        assert stale.format(verbs) in capsys.readouterr().err
    command("predict", run, *split, "--device", "cpu")
    assert main(["score", str(run), *split]) == 1  # the masks are still those of the earlier probabilities
    command("refine", run, *split)
    command("score", run, *split)


def test_files_of_earlier_settings_are_refused(run, capsys):
    command("predict", run, "--split", "val", "--device", "cpu")
    command("refine", run, "--split", "val")
    path = run / "experiment.yaml"
    path.write_text(path.read_text().replace("iterations: 20", "iterations: 3"))
    assert main(["score", str(run), "--split", "val"]) == 1
    assert "were made from other settings than the run has now" in capsys.readouterr().err


def test_manifests_end_with_the_files_that_they_describe(run, small_experiment, monkeypatch):
    command("predict", run, "--split", "val", "--device", "cpu")
    manifest = run / "val" / "probabilities" / "complete-1-of-1.json"
    assert manifest.is_file()
    train(load_experiment(small_experiment, {"seed": 1}), run, workers=0)

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt
        yield

    with monkeypatch.context() as patch:
        patch.setattr("getam.evaluation.prediction.predict_files", interrupted)
        assert main(["predict", str(run), "--split", "val", "--device", "cpu"]) == 130
    assert not manifest.exists()
    # Nor does that of an unchanged run survive until its missing files are there again.
    command("predict", run, "--split", "val", "--device", "cpu")
    next((run / "val" / "probabilities").glob("*.npz")).unlink()
    with monkeypatch.context() as patch:
        patch.setattr("getam.evaluation.prediction.predict_files", interrupted)
        assert main(["predict", str(run), "--split", "val", "--device", "cpu"]) == 130
    assert not manifest.exists()


def test_an_output_that_is_not_finite_is_refused(run, capsys):
    from safetensors.torch import load_file, save_file

    weights, path = load_file(run / "weights.safetensors"), run / "weights.safetensors"
    weights["segmentation_head.4.weight"].fill_(3e38)  # finite, as NaN itself is refused when weights are read
    with safe_open(path, "pt") as file:
        described = file.metadata()
    save_file(weights, path, described)
    assert main(["predict", str(run), "--split", "val", "--device", "cpu"]) == 1
    assert re.search(r"probabilities/\S+\.npz: the network's output is NaN or infinite", capsys.readouterr().err)
    assert not list((run / "val" / "probabilities").glob("*.npz"))


@pytest.mark.parametrize("verb", ["label", "maps"])
def test_precision_of_maps(run, verb, monkeypatch):
    """inference.precision counts where maps are computed, too: their forward runs in bfloat16."""
    seen, forward = [], torch.nn.Linear.forward

    def watched(self, x):
        outcome = forward(self, x)
        seen.append(outcome.dtype)
        return outcome

    monkeypatch.setattr(torch.nn.Linear, "forward", watched)
    path = run / "experiment.yaml"
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        settings = yaml.safe_load(path.read_text())
        settings["inference"]["precision"] = precision
        path.write_text(yaml.safe_dump(settings))
        seen.clear()
        command(verb, run, "--split", "val", "--device", "cpu")
        assert dtype in seen
        assert (torch.bfloat16 in seen) == (precision == "bfloat16")


def test_other_crf_settings_make_masks_alone_anew(run, small_experiment):
    for step in ("predict", "refine"):
        command(step, run, "--split", "val")
    probabilities, masks = times(run / "val" / "probabilities"), times(run / "val" / "masks")
    path = run / "experiment.yaml"
    path.write_text(path.read_text().replace("iterations: 20", "iterations: 2"))
    for step in ("predict", "refine"):
        command(step, run, "--split", "val")
    assert written_since(probabilities, run / "val" / "probabilities") <= {"complete-1-of-1.json"}
    assert len(written_since(masks, run / "val" / "masks") - {"settings.json"}) == 10


def test_settings_that_the_weights_were_not_trained_with(run, small_experiment, capsys):
    before = (run / "experiment.yaml").read_bytes()
    other = {**small_experiment, "training": {**small_experiment["training"], "rate": 0.5}}
    arguments = ["--split", "val", "--device", "cpu", "--experiment"]
    assert main(["predict", str(run), *arguments, json.dumps(other, default=str)]) == 1
    assert f"the weights in {run} were trained with other settings" in capsys.readouterr().err
    assert (run / "experiment.yaml").read_bytes() == before
    other = {**small_experiment, "inference": {"sizes": [64]}}
    command("predict", run, *arguments, json.dumps(other, default=str))
    assert load_experiment(run / "experiment.yaml").inference.sizes == (64,)


def test_pseudo_labels_are_what_training_makes_of_whole_images(run, small_experiment, small_shapes):
    command("label", run, "--split", "val", "--batch", 3)
    command("score", run, "--split", "val", "--what", "pseudo_labels", "--workers", 1)
    assert (run / "val" / "pseudo_label_iou.csv").is_file()
    split, experiment = open_dataset(small_shapes / "dataset").split("val"), load_experiment(small_experiment)
    network, _ = load_network(run / "weights.safetensors")
    for i, name in enumerate(split.ids):  # images are as large as the crop: nothing is resized
        rgb = torch.from_numpy(read_image(split.image(name))).permute(2, 0, 1)[None]
        saliency = torch.from_numpy(read_mask(small_shapes / "saliency" / f"{name}.png"))[None]
        labels = torch.from_numpy(split.labels[i : i + 1])
        maps = activation_maps(network, normalise_images(rgb), labels, "getam", 0, heads="paper")
        maps = normalise_maps(refine_maps(maps, rgb.float(), 2, (1, 2)))
        expected, _ = complete_labels(maps, saliency, labels, experiment.recipe)
        found = torch.from_numpy(read_mask(run / "val" / "pseudo_labels" / f"{name}.png"))
        assert (found == expected[0]).double().mean() > 0.999


def test_pseudo_labels_of_images_of_any_size(run, small_experiment):
    from getam.data.augmentation import centred_view
    from getam.evaluation.labelling import _at_size

    rgb = np.random.default_rng(0).integers(0, 256, (20, 50, 3), np.uint8)
    saliency = np.zeros((20, 50), np.uint8)
    saliency[:, 25:] = 255
    view = centred_view(rgb, saliency, 64)
    assert view.valid.sum() == 64 * 26  # 50 : 20 as 64 : 25.6
    assert view.valid[19:45].all()
    assert np.array_equal(_at_size(view.unpad(view.saliency), (20, 50)), saliency)
    enlarged = F.interpolate(torch.from_numpy(saliency)[None, None], (26, 64), mode="nearest-exact")[0, 0]
    assert torch.equal(view.saliency[19:45], enlarged)


def test_submission(run, tmp_path):
    for step in ("predict", "refine"):
        command(step, run, "--split", "test")
    command("submit", run, "--output", tmp_path / "voc.tar.gz")
    assert (tmp_path / "voc.tar.gz").stat().st_size > 500


def test_deeplab_has_no_maps(small_experiment, tmp_path, capsys):
    """Said in one line before anything runs, and of a weight file by `explain`."""
    settings = {**small_experiment, "taught_by": "truth", "network": {"backbone": "deeplab_v2", "pretrained": False}}
    write_experiment(tmp_path, load_experiment(settings))
    for verb in ("label", "maps"):
        assert main([verb, str(tmp_path), "--split", "val", "--device", "cpu"]) == 1
        line = capsys.readouterr().err.splitlines()[-1]
        assert line == f"getam: error: {tmp_path}: deeplab_v2 has no activation maps, and so no pseudo labels"
    path, split = tmp_path / "weights.safetensors", Run(tmp_path).dataset.split("val")
    save_network(path, build_model("deeplab_v2", 5), Run(tmp_path).dataset.classes, {}, backbone="deeplab_v2")
    assert main(["explain", str(split.image(split.ids[0])), "--checkpoint", str(path), "--device", "cpu"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "DeepLabV2: activation maps need a SegmentationNetwork or a timm vision transformer" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "{empty}", "--split", "val"], "is not a run: it has no experiment.yaml"),
        (["predict", "{run}", "--split", "vla"], "no split 'vla'; did you mean val?"),
        (
            ["refine", "{run}", "--split", "val"],
            "no probabilities in .*val/probabilities; `getam predict` writes them",
        ),
        (["score", "{run}", "--split", "val"], "9 of the 9 masks of split"),
        (["refine", "{run}"], "expected RUN and --split, or PROBABILITIES, IMAGES and --output"),
        (["train", "{empty}/none.yaml", "--output", "{empty}/r"], "no experiment file"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    filled = [argument.format(run=run, empty=tmp_path / "empty") for argument in arguments]
    assert main(filled) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert re.search(message, line), line


def test_weights_that_are_not_there_or_of_other_classes(run, capsys):
    (run / "weights.safetensors").rename(run / "moved")
    assert main(["predict", str(run), "--split", "val"]) == 1
    assert "no weight file" in capsys.readouterr().err


def test_a_released_checkpoint_as_a_run(released_state_dict, small_shapes, small_experiment, tmp_path):
    state = released_state_dict("vitb")
    # Five classes instead of twenty, as the drawn data set has them.
    state["cls_head.weight"], state["cls_head.bias"] = state["cls_head.weight"][:5], state["cls_head.bias"][:5]
    state["scratch.output_conv.4.weight"] = state["scratch.output_conv.4.weight"][:6]
    state["scratch.output_conv.4.bias"] = state["scratch.output_conv.4.bias"][:6]
    torch.save(state, tmp_path / "released.pth")
    small_experiment["network"] = {"backbone": "vitb"}
    (tmp_path / "e.json").write_text(json.dumps(small_experiment))
    command("convert", tmp_path / "released.pth", tmp_path / "e.json", "--output", tmp_path / "run")
    command("predict", tmp_path / "run", "--split", "test", "--shard", "1/5")
    (path,) = (tmp_path / "run" / "test" / "probabilities").glob("*.npz")
    assert read_probabilities(path).shape == (6, 32, 32)


@pytest.mark.parametrize("verb", ["score", "submit"])
def test_what_needs_no_network_does_not_wait_for_torch(run, tmp_path, verb):
    command("predict", run, "--split", "test", "--device", "cpu")
    command("refine", run, "--split", "test", "--workers", 1)
    arguments = [verb, str(run), "--split", "test"]
    arguments += ["--output", str(tmp_path / "masks.tar.gz")] if verb == "submit" else ["--workers", "1"]
    program = (
        f"import sys; from getam.cli.command import main; status = main({arguments!r});"
        "sys.exit(status or sorted({'torch', 'timm', 'scipy', 'cv2'} & set(sys.modules)) or None)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
