"""The saliency stage: every source, thresholds, resuming, and refused input."""

import hashlib
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from getam.cli.command import main
from getam.data import shapes
from getam.data.dataset import DataSet, open_dataset
from getam.data.images import read_image, read_mask, write_grey
from getam.data.saliency import maps
from getam.data.saliency.background import background_saliency
from getam.data.saliency.maps import SaliencySettings, binarise, make_saliency
from getam.data.saliency.network import network_saliency
from getam.data.saliency.onnx_models import MODELS
from getam.data.shapes import ShapesSettings
from getam.utils.files import read_json
from getam.utils.provenance import step_digest
from tests.helpers.onnx_networks import write_network

IDS = ("val_00000", "val_00001", "val_00002")


@pytest.fixture
def dataset(tmp_path) -> DataSet:
    return shapes.prepare(tmp_path / "shapes", ShapesSettings(train=1, val=3, test=1))


@pytest.fixture
def model(tmp_path) -> Path:
    return write_network(tmp_path / "model.onnx", 320)


def run(dataset: DataSet, folder: Path, *splits: str, workers: int = 1, **settings) -> list[str]:
    made = make_saliency(dataset, list(splits or ("val",)), folder, SaliencySettings(**settings), workers)
    return sorted(path.name for path in made)


def test_without_training(dataset, tmp_path):
    folder = tmp_path / "saliency"
    assert run(dataset, folder, threshold="keep") == [f"{name}.png" for name in IDS]
    for name in IDS:
        expected = np.rint(255 * background_saliency(read_image(dataset.split("val").image(name))))
        assert np.array_equal(read_mask(folder / f"{name}.png", (64, 64)), expected)
    assert read_json(folder / "complete-val.json")["maps"] == 3


def test_the_truth_itself(dataset, tmp_path):
    run(dataset, tmp_path, source="truth")
    for name in IDS:
        truth = read_mask(dataset.split("val").mask(name))
        assert np.array_equal(read_mask(tmp_path / f"{name}.png"), np.where(truth > 0, 255, 0))
    dataset.split("val").mask(IDS[1]).unlink()
    with pytest.raises(FileNotFoundError, match=f"masks of split 'val'.*{IDS[1]}"):
        run(dataset, tmp_path, source="truth")


def test_a_network_on_a_data_set(dataset, model, tmp_path):
    assert len(run(dataset, tmp_path / "maps", source="u2net", path=model, workers=2)) == 3
    for name in IDS:
        saliency = network_saliency(read_image(dataset.split("val").image(name)), MODELS["u2net"], model)
        expected = np.where(np.rint(255 * saliency) > 127, 255, 0)
        assert np.array_equal(read_mask(tmp_path / "maps" / f"{name}.png"), expected)
        assert set(np.unique(expected)) == {0, 255}


def test_bad_models(dataset, tmp_path):
    for source in MODELS:
        with pytest.raises(FileNotFoundError, match=rf"no ONNX file .*none\.onnx; `getam fetch {source}` downloads it"):
            run(dataset, tmp_path / "a", source=source, path=tmp_path / "none.onnx")
    (tmp_path / "page.onnx").write_text("<html>")
    with pytest.raises(ValueError, match=r"page\.onnx is not an ONNX file"):
        run(dataset, tmp_path / "b", source="u2net", path=tmp_path / "page.onnx")
    with pytest.raises(ValueError, match=r"small\.onnx cannot be run on \(1, 3, 320, 320\)"):
        run(dataset, tmp_path / "c", source="u2net", path=write_network(tmp_path / "small.onnx", 64))


def test_maps_of_another_model_are_stale(dataset, model, tmp_path, caplog):
    """The manifest names the source and the weights; the same weights elsewhere leave the maps valid."""
    folder, moved = tmp_path / "maps", tmp_path / "elsewhere" / "network.onnx"
    run(dataset, folder, source="u2net", path=model)
    manifest = read_json(folder / "complete-val.json")
    assert manifest["settings"] == {
        "source": "u2net",
        "threshold": 127,
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
    }
    assert manifest["versions"]["onnxruntime"] == onnxruntime.__version__
    assert "model.onnx is not the published u2net.onnx" in caplog.text
    kept = folder / f"{IDS[0]}.png"
    os.utime(kept, (1, 1))
    moved.parent.mkdir()
    moved.write_bytes(model.read_bytes())
    run(dataset, folder, source="u2net", path=moved)
    assert kept.stat().st_mtime == 1
    # Other weights, and the same weights by another name of the source.
    for source, gain in (("u2net", -2.0), ("u2netp", -2.0)):
        os.utime(kept, (1, 1))
        run(dataset, folder, source=source, path=write_network(model, 320, gain))
        assert kept.stat().st_mtime > 1
        assert read_json(folder / "complete-val.json")["settings"]["source"] == source


def test_sources_without_a_network_do_not_depend_on_onnxruntime(dataset, tmp_path):
    run(dataset, tmp_path / "maps", source="border")
    manifest = read_json(tmp_path / "maps" / "complete-val.json")
    assert manifest["settings"] == {"source": "border", "path": None, "threshold": "otsu"}
    assert "onnxruntime" not in manifest["versions"]


@pytest.mark.parametrize(
    ("source", "free", "processes", "threads"),
    [("birefnet", 31, 4, 2), ("birefnet", 15, 2, 4), ("birefnet", 3, 1, 8), ("isnet", 31, 8, 1), ("border", 1, 8, 1)],
)
def test_memory_bounds_the_processes(source, free, processes, threads, monkeypatch, tmp_path):
    """Of eight workers with `free` GiB of memory; the network's threads use the other cores."""
    asked = []

    def record(function, jobs, workers):
        asked.append((workers, function.args[1]))
        return iter(())

    dataset = shapes.prepare(tmp_path / "shapes", ShapesSettings(train=1, val=9, test=1))
    monkeypatch.setattr(maps, "map_unordered", record)
    monkeypatch.setattr(maps, "available_memory", lambda: free * 2**30)
    model = write_network(tmp_path / "model.onnx", 64) if source in MODELS else None
    run(dataset, tmp_path / "maps", source=source, path=model, workers=8)
    assert asked == [(processes, threads)]


def test_one_process_uses_the_gpu(dataset, monkeypatch, tmp_path):
    monkeypatch.setattr(maps, "uses_gpu", lambda device: device == "auto")
    settings = SaliencySettings("u2net", tmp_path)
    assert maps._processes(settings, 8, "auto") == 1
    assert maps._processes(settings, 8, "cpu") > 1


@pytest.mark.parametrize(("source", "threshold"), [("authors", None), ("pfan", 127)])
def test_published_maps(dataset, tmp_path, source, threshold):
    """Copied like those of a folder, but the manifest has their name; PFAN's graded maps are thresholded."""
    ramp = np.tile(np.arange(0, 256, 4, np.uint8), (64, 1))
    for name in IDS:
        write_grey(tmp_path / "theirs" / f"{name}.png", ramp)
    run(dataset, tmp_path / "ours", source=source, path=tmp_path / "theirs")
    expected = ramp if threshold is None else np.where(ramp > threshold, 255, 0)
    assert np.array_equal(read_mask(tmp_path / "ours" / f"{IDS[0]}.png"), expected)
    settings = read_json(tmp_path / "ours" / "complete-val.json")["settings"]
    assert (settings["source"], settings["path"]) == (source, str(tmp_path / "theirs"))


def test_folder(dataset, tmp_path):
    """Maps at any depth; graded values stay as they are."""
    generator = np.random.default_rng(0)
    maps = {name: generator.integers(0, 256, (64, 64), np.uint8) for name in IDS}
    for i, name in enumerate(IDS):
        write_grey(tmp_path / "theirs" / str(i) / f"{name}.png", maps[name])
    write_grey(tmp_path / "theirs" / "other.png", maps[IDS[0]])
    run(dataset, tmp_path / "ours", source="folder", path=tmp_path / "theirs")
    for name in IDS:
        assert np.array_equal(read_mask(tmp_path / "ours" / f"{name}.png"), maps[name])
    # Another split leaves these.
    write_grey(tmp_path / "theirs" / "test_00000.png", maps[IDS[0]])
    run(dataset, tmp_path / "ours", "test", source="folder", path=tmp_path / "theirs")
    assert len(list((tmp_path / "ours").glob("*.png"))) == 4
    # A changed original is copied again.
    write_grey(tmp_path / "theirs" / "0" / f"{IDS[0]}.png", maps[IDS[1]])
    run(dataset, tmp_path / "ours", source="folder", path=tmp_path / "theirs", threshold=99)
    assert np.array_equal(read_mask(tmp_path / "ours" / f"{IDS[0]}.png"), (maps[IDS[1]] > 99) * 255)


def test_bad_folders(dataset, tmp_path):
    theirs = tmp_path / "theirs"
    with pytest.raises(FileNotFoundError, match="no folder of saliency maps"):
        run(dataset, tmp_path / "ours", source="folder", path=theirs)
    for name in IDS[:2]:
        write_grey(theirs / f"{name}.png", np.zeros((64, 64), np.uint8))
    with pytest.raises(FileNotFoundError, match="has no map for 1 of the 3 images: val_00002"):
        run(dataset, tmp_path / "ours", source="folder", path=theirs)
    write_grey(theirs / f"{IDS[2]}.png", np.zeros((64, 60), np.uint8))
    with pytest.raises(ValueError, match=r"val_00002\.png: expected 64 x 64 pixels as its image has, found 60 x 64"):
        run(dataset, tmp_path / "ours", source="folder", path=theirs)
    assert not (tmp_path / "ours" / "complete-val.json").exists()
    write_grey(theirs / "again" / f"{IDS[2]}.png", np.zeros((64, 64), np.uint8))
    with pytest.raises(ValueError, match="two saliency maps of val_00002"):
        run(dataset, tmp_path / "ours", source="folder", path=theirs)


def test_output_inside_the_source_folder_is_refused(dataset, tmp_path):
    folder = tmp_path / "maps"
    run(dataset, folder, threshold="keep")
    for output in (folder, folder / "cut"):
        with pytest.raises(ValueError, match="is inside the source folder"):
            run(dataset, output, source="folder", path=folder, threshold=127)
    assert len(list(folder.glob("*.png"))) == 3


def test_thresholds():
    ramp = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(binarise(ramp, "keep"), ramp)
    assert (binarise(ramp, 0) > 0).sum() == 255
    assert (binarise(ramp, 254) > 0).sum() == 1
    two = np.repeat(np.uint8([[40, 60, 200, 220]]), 9, 0)
    assert np.array_equal(binarise(two, "otsu"), np.repeat(np.uint8([[0, 0, 255, 255]]), 9, 0))
    for value in (0, 90, 255):
        assert not binarise(np.full((4, 4), value, np.uint8), "otsu").any()


def test_resumes(dataset, tmp_path):
    folder = tmp_path / "saliency"
    jobs = make_saliency(dataset, ["val"], folder, SaliencySettings())
    kept = next(jobs)
    jobs.close()
    assert not (folder / "complete-val.json").exists()
    os.utime(kept, (1, 1))
    assert len(run(dataset, folder)) == 3
    assert kept.stat().st_mtime == 1
    content = kept.read_bytes()
    # Another split: existing maps stay.
    run(dataset, folder, "test")
    assert kept.stat().st_mtime == 1
    assert len(list(folder.glob("*.png"))) == 4
    assert {path.name for path in folder.glob("complete-*")} == {"complete-val.json", "complete-test.json"}
    # Other settings, other data: all maps are recomputed.
    run(dataset, folder, threshold=3)
    assert not (folder / "complete-test.json").exists()
    assert kept.stat().st_mtime > 1
    os.utime(kept, (1, 1))
    shapes.prepare(dataset.folder, ShapesSettings(train=1, val=3, test=1, seed=5))
    run(open_dataset(dataset.folder), folder, threshold=3)
    assert kept.stat().st_mtime > 1
    assert kept.read_bytes() != content


def test_maps_of_other_images_are_stale_split_by_split(dataset, tmp_path):
    run(dataset, tmp_path / "maps", "val", "test", source="border")
    before = {path.name: path.read_bytes() for path in (tmp_path / "maps").glob("*.png")}
    redrawn = shapes.prepare(dataset.folder, ShapesSettings(train=1, val=3, test=1, seed=5))
    run(redrawn, tmp_path / "maps", "val", source="border")
    after = {path.name: path.read_bytes() for path in (tmp_path / "maps").glob("*.png")}
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] == after[name]} == {"test_00000.png"}
    # The split that was not asked for has noted its images, and is found stale when it is.
    run(redrawn, tmp_path / "maps", "test", source="border")
    assert (tmp_path / "maps" / "test_00000.png").read_bytes() != before["test_00000.png"]


def test_a_folder_with_other_pictures_is_left_alone(dataset, tmp_path):
    write_grey(tmp_path / "mine" / "holiday.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="holds .png files that this command has not made"):
        run(dataset, tmp_path / "mine")
    assert (tmp_path / "mine" / "holiday.png").exists()


def test_bad_settings(tmp_path):
    for settings, message in (
        ({"source": "magic"}, "source: expected one of authors, pfan, u2net, .*, folder, truth, got 'magic'"),
        *(({"source": name}, f"path: source '{name}' needs one") for name in (*MODELS, "authors", "pfan", "folder")),
        ({"path": tmp_path}, "path: source 'background' takes none"),
        ({"threshold": 255}, "threshold: expected 0..254, otsu or keep, got 255"),
        ({"threshold": "half"}, "threshold: expected 0..254, otsu or keep, got 'half'"),
    ):
        with pytest.raises(ValueError, match=message):
            SaliencySettings(**settings)


def test_command(dataset, tmp_path, capsys):
    folder = tmp_path / "saliency"
    command = ["saliency", str(dataset.folder), "--output", str(folder), "--workers", "1"]
    assert main([*command, "--source", "border", "--splits", "val", "--threshold", "100"]) == 0
    assert capsys.readouterr().out == f"3 maps in {folder}\n"
    assert main(["check", str(dataset.folder), "--splits", "val", "--saliency", str(folder), "--workers", "1"]) == 0
    assert "salient pixels" in capsys.readouterr().out
    assert main([*command, "--threshold", "x"]) == 1
    assert "getam: error: threshold: expected" in capsys.readouterr().err
    (folder / f"{IDS[1]}.png").unlink()
    assert main(["check", str(dataset.folder), "--splits", "val", "--saliency", str(folder), "--workers", "1"]) == 1
    assert "1 images cannot be used:" in capsys.readouterr().err


def test_the_manifest_names_the_code_of_the_step(dataset, tmp_path):
    """The same digest as the workflow's: edits of comments leave maps valid, edits of any covered module do not."""
    run(dataset, tmp_path / "maps")
    assert read_json(tmp_path / "maps" / "settings.json")["code_sha256"] == step_digest("getam.data.saliency.maps")


def test_command_finds_a_fetched_network(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["saliency", str(dataset.folder), "--output", "maps", "--splits", "val", "--workers", "1"]
    assert main([*command, "--source", "isnet"]) == 1
    message = "no ONNX file resources/archives/isnet-general-use.onnx; `getam fetch isnet` downloads it"
    assert message in capsys.readouterr().err
    write_network(tmp_path / "resources" / "archives" / "isnet-general-use.onnx", 1024)
    assert main([*command, "--source", "isnet", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "3 maps in maps\n"
    assert read_json(tmp_path / "maps" / "complete-val.json")["settings"]["source"] == "isnet"


def test_unreadable_photograph(dataset, tmp_path):
    dataset.split("val").image(IDS[1]).write_bytes(b"\xff\xd8 no photograph")
    with pytest.raises(ValueError, match=r"val_00001\.jpg cannot be read as an image"):
        run(dataset, tmp_path / "saliency")
