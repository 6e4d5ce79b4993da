"""The main target from an empty folder, every host played on loopback: fetch to table, through drops and refusals."""

import csv
import os
import subprocess

import pytest
import yaml

from tests.helpers import internet
from tests.helpers.file_server import serving
from tests.helpers.small_workflow import ROOT, command, environment

pytest.importorskip("snakemake")
TARGET, ROW = "results/voc_val_miou.csv", "results/voc_val_miou/voc_deit.csv"
EXPERIMENTS = ("voc_vitb_hybrid", "voc_vitb", "voc_deit", "voc_deit_distilled")
SMALL = {
    "device": "cpu",
    "seeds": [0],
    "datasets": {"voc": {"options": {"subset": True}}},
    "recipes": {
        "voc": {
            "network": {"decoder_width": 16},
            "maps": {"iterations": 1, "dilations": [1]},
            "training": {"crop": 32, "batch": 2, "epochs": 2},
            "inference": {"sizes": [32]},
            "monitoring": {"sheet": 0},
        }
    },
    "experiments": {name: {"network": {"backbone": "vit_tiny"}} for name in EXPERIMENTS},
}


@pytest.fixture
def rehearsal(tmp_path):
    """Runs a target: a function of its name and of options that returns the output."""
    source, folder = tmp_path / "source", tmp_path / "work"
    source.mkdir()
    folder.mkdir()
    parts = ("Snakefile", "workflow", "config", "profiles")
    subprocess.run(["cp", "-r", *(str(ROOT / part) for part in parts), str(source)], check=True)
    archives = internet.make_archives(tmp_path / "archives")
    path = source / "config" / "archives.yaml"
    registry = yaml.safe_load(path.read_text())
    internet.register(registry, archives)
    path.write_text(yaml.safe_dump(registry))
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    with serving() as server:
        internet.play(server, registry, archives)
        own = {**environment(), "GETAM_LOOPBACK": str(server.server_port)}
        own["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests" / "helpers" / "loopback"), own["PYTHONPATH"]])

        def run(target: str, *options: str) -> str:
            asked = command("--cores", 2, "--configfile", "small.yaml", *options, "--", target, source=source)
            done = subprocess.run(asked, cwd=folder, env=own, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        run.server, run.folder = server, folder
        yield run


def table(path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_main_target_from_an_empty_folder(rehearsal):
    rehearsal(TARGET)
    folder, server = rehearsal.folder, rehearsal.server
    rows = table(folder / TARGET)
    assert [row["experiment"] for row in rows] == list(EXPERIMENTS)
    assert all(float(row["reproduced"]) >= 0 and row["saliency"] == "authors" for row in rows)
    # Every file was asked of a mirror that is dead, and every transfer but one broke off and went on.
    dead = [path for path in server.ranges if path.startswith("/https/dead.example/")]
    assert len(dead) == 7
    resumed = [path for path, ranges in server.ranges.items() if any(ranges)]
    assert len(resumed) == 7
    assert not (folder / "resources" / "sbd" / "benchmark_RELEASE" / "dataset" / "inst").exists()
    locked = yaml.safe_load((folder / "resources" / "archives" / "archives.lock.yaml").read_text())
    assert {"sbd", "saliency_voc"} <= locked.keys()

    assert "Nothing to be done" in rehearsal(TARGET)

    # Other maps: those of before stay, the network is trained again, and the table says so.
    rehearsal(ROW, "--config", "saliency_source=pfan")
    assert [row["saliency"] for row in table(folder / ROW)] == ["pfan"]
    maps = folder / "resources" / "saliency" / "voc"
    assert sorted(path.name for path in maps.iterdir()) == ["authors", "pfan"]
    assert all((maps / source / "complete-train_aug.json").is_file() for source in ("authors", "pfan"))
