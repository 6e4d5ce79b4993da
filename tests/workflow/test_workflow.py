"""The workflow as its users call it: Snakemake in a process of its own, in an empty folder."""

import csv
import json
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from getam.config.tables import Row, rows_of
from getam.utils.provenance import modules_of_step
from tests.helpers.configuration import read
from tests.helpers.small_workflow import ROOT, command, environment, snakemake, snakemake_of

pytest.importorskip("snakemake")
TARGETS = [
    "results/voc_val_miou.csv",
    "results/voc_val_miou/voc_deit.csv",
    "results/released/voc_val_miou.csv",
    "results/voc_test/voc_vitb_hybrid.tar.gz",
    "results/coco_val_miou.csv",
    "results/activation_methods.csv",
    "results/pseudo_label_methods.csv",
    "results/pseudo_label_quality.csv",
    "results/map_fusion.csv",
    "results/start_layer.csv",
    "results/mining_threshold.csv",
    "results/multistage_voc_val_miou.csv",
    "results/backbones.csv",
    "results/recipes.csv",
    "results/paper.csv",
    "results/report.html",
]


def test_every_target_resolves_without_data(tmp_path):
    output = snakemake(tmp_path, "--dry-run", *TARGETS)
    assert "Missing" not in output.replace("Missing output files", "")
    jobs = dict(line.split() for line in output.splitlines() if len(line.split()) == 2 and line.split()[1].isdecimal())
    experiments = yaml.safe_load((ROOT / "config" / "experiments.yaml").read_text())["experiments"]
    released = sum("checkpoint" in entry for entry in experiments.values())
    assert int(jobs["train"]) == len(experiments) - released
    assert int(jobs["convert"]) == released
    assert not list(tmp_path.glob("re*"))


def test_every_number_of_the_paper_has_a_path():
    """Those without one are not reproducible by anyone: data that is not published, or the evaluation server."""
    config = {name: read(f"{name}.yaml") for name in ("config", "recipes", "experiments", "paper")}
    config = {key: value for part in config.values() for key, value in part.items()}
    for table in config["tables"]:
        for row in rows_of(table, config):
            assert row.experiment or row.submission or row.state.startswith("not reproducible: "), (table, row)


def test_paper_reaches_every_table(tmp_path):
    output = snakemake(tmp_path, "--dry-run", "results/paper.csv")
    for target in TARGETS:
        assert target in output or target in ("results/report.html", "results/voc_val_miou/voc_deit.csv")


@pytest.mark.parametrize(
    ("settings", "message"),
    [  # tests/config/test_validation.py has more
        ({"sheds": [0]}, "configuration: Additional properties are not allowed ('sheds' was unexpected)"),
        (
            {"experiments": {"voc_deit": {"training": {"rate": -1}}}},
            "experiments.voc_deit.training.rate: -1 is less than or equal to the minimum of 0",
        ),
        ({"experiments": {"voc_deit": {"extends": "vox"}}}, "there is no 'vox'; did you mean voc"),
    ],
)
def test_wrong_configuration(tmp_path, settings, message):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings))
    output = snakemake(tmp_path, "--dry-run", "--configfile", "own.yaml", status=1)
    assert message in output
    assert "Traceback" not in output


def test_an_experiment_that_does_not_exist(tmp_path):
    output = snakemake(tmp_path, "--dry-run", "results/experiments/voc_diet/val/iou.csv", status=1)
    assert "there is no 'voc_diet'; did you mean voc_deit" in output


def test_saliency_is_made_of_the_split_that_needs_it(tmp_path):
    """A training needs none of the images that are only scored; another source needs no archive."""
    target = "results/experiments/voc_deit/val/iou.csv"
    output = snakemake(tmp_path, "--dry-run", "-p", target)
    assert "--splits train_aug --source authors --path resources/saliency_maps/voc" in output
    assert "resources/saliency/voc/authors" in output
    assert "--splits val" not in output
    assert "getam fetch saliency_voc" in output
    output = snakemake(tmp_path, "--dry-run", "-p", "--config", "saliency_source=background", "--", target)
    assert "--splits train_aug --source background --workers" in output
    assert "resources/saliency/voc/background" in output
    assert "saliency_voc" not in output
    output = snakemake(tmp_path, "--dry-run", "-p", "results/experiments/coco_vitb_hybrid/val/pseudo_label_iou.csv")
    assert "--splits train --source authors" in output
    assert "--splits val --source authors" in output


@pytest.mark.parametrize(
    ("settings", "archive", "options"),
    [
        ("saliency_source=isnet", "isnet", "--source isnet --path resources/archives/isnet-general-use.onnx"),
        ("saliency={voc: {source: u2netp}}", "u2netp", "--source u2netp --path resources/archives/u2netp.onnx"),
        ("saliency_source=pfan", "pfan_voc", "--source pfan --path resources/pfan_maps/voc"),
    ],
)
def test_the_source_of_saliency_is_one_key(tmp_path, settings, archive, options):
    target = "results/experiments/voc_deit/val/iou.csv"
    output = snakemake(tmp_path, "--dry-run", "-p", "--config", settings, "--", target)
    assert f"getam fetch {archive} --folder resources/archives" in output
    assert options in output
    assert "saliency_voc" not in output


VOC, COCO = "VOCtrainval_11-May-2012.tar", ("val2014.zip", "annotations_trainval2014.zip")
WEIGHTS = ("jx_vit_base_resnet50_384-9fd3c705.pth", "jx_vit_base_p16_384-83fb41ba.pth")
DEIT = ("deit_base_patch16_384-8de9b5d1.pth", "deit_base_distilled_patch16_384-d0272ac0.pth")
RELEASED = [f"released_voc_{name}.pth" for name in ("vitb_hybrid", "vitb", "deit", "deit_distilled")]


@pytest.mark.parametrize(
    ("target", "files"),
    [
        ("results/released/voc_val_miou.csv", [VOC, *RELEASED]),
        ("results/voc_val_miou.csv", [VOC, "benchmark.tgz", "saliency_voc.zip", *WEIGHTS, *DEIT]),
        ("results/voc_val_miou/voc_deit.csv", [VOC, "benchmark.tgz", "saliency_voc.zip", DEIT[0]]),
        ("results/pseudo_label_quality.csv", [VOC, "benchmark.tgz", "saliency_voc.zip", *WEIGHTS, *DEIT]),
        (
            "results/experiments/voc_multistage/val/iou.csv",
            [VOC, "benchmark.tgz", "saliency_voc.zip", DEIT[1], "resnet101-63fe2227.pth"],
        ),
        ("results/voc_test/released_voc_deit.tar.gz", [VOC, "VOC2012test.tar", RELEASED[2]]),
        (
            "results/coco_val_miou.csv",
            [*COCO, "train2014.zip", "saliency_coco.zip", WEIGHTS[0], "released_coco_vitb_hybrid.pth"],
        ),
        (
            "results/experiments/released_coco_vitb_hybrid/val/iou.csv",
            [*COCO, "released_coco_vitb_hybrid.pth"],
        ),
    ],
)
def test_a_target_fetches_what_it_needs(tmp_path, target, files):
    output = snakemake(tmp_path, "--dry-run", "--until", "fetch", "--", target)
    assert sorted(re.findall(r"^ +output: resources/archives/(.+)\.json$", output, re.MULTILINE)) == sorted(files)


@pytest.mark.parametrize("table", ["voc_val_miou", "released/voc_val_miou", "coco_val_miou", "multistage_voc_val_miou"])
@pytest.mark.parametrize("source", ["authors", "isnet"])
def test_all_archives_of_the_report_are_a_target(tmp_path, table, source):
    """The same as a dry run of the tables finds."""
    settings = ("--config", f"report=[{table}]", f"saliency_source={source}", "--")
    fetched = [
        sorted(re.findall(r"^ +output: resources/archives/(.+)\.json$", output, re.MULTILINE))
        for output in (
            snakemake(tmp_path, "--dry-run", *settings, "resources/archives.txt"),
            snakemake(tmp_path, "--dry-run", "--until", "fetch", *settings, f"results/{table}.csv"),
        )
    ]
    assert fetched[0] == fetched[1] != []


def test_data_that_is_there_needs_no_archive(tmp_path):
    settings = "datasets={voc: {archives: null, root: there, options: {subset: true, sbd: null}}}"
    output = snakemake(tmp_path, "--dry-run", "-p", "--config", settings, "saliency_source=border", "--", TARGETS[1])
    assert re.findall(r"getam prepare .*?--workers", output) == [
        "getam prepare voc there --subset --part dataset  --workers",
        "getam prepare voc there --subset --part train_aug  --workers",
    ]
    assert "unpack" not in output


MODULE = """
{}
module getam:
    snakefile: "{}/Snakefile"
    {}


use rule * from getam as reproduction_*
"""


@pytest.mark.parametrize(("first", "config"), [("", ""), ("configfile: 'own.yaml'", "config: config")])
def test_as_a_module_of_another_workflow(tmp_path, first, config):
    """With and without a configuration of its own, which names the settings that differ."""
    (tmp_path / "own.yaml").write_text("seeds: [3]\nbatch: 2\n")
    (tmp_path / "Snakefile").write_text(MODULE.format(first, ROOT, config))
    output = snakemake_of(tmp_path, "--cores", "1", "--dry-run", "-p", "results/voc_val_miou/voc_deit.csv")
    assert ("voc_deit-seed3" in output) == ("--batch 2" in output) == bool(config)
    assert f"--registry {ROOT}/config/archives.yaml" in output


def run(folder, small_workflow, *arguments, **options):
    (folder / "own.yaml").write_text(yaml.safe_dump(small_workflow))
    return snakemake(folder, "--configfile", "own.yaml", "--cores", 2, *arguments, **options)


def rules(output):
    """Names of the rules that were run."""
    lines = [line.removeprefix("local") for line in output.splitlines()]
    return {line[5:-1] for line in lines if line.startswith("rule ") and line.endswith(":")} - {"main_table"}


@pytest.mark.slow
def test_from_nothing_to_table_and_report_and_what_changes_mean(tmp_path, small_workflow):
    source = tmp_path / "source"
    subprocess.run(["cp", "-r", *(str(ROOT / part) for part in PARTS), str(source.mkdir() or source)], check=True)
    folder = tmp_path / "work"
    folder.mkdir()

    small_workflow |= {"shards": 1, "seeds": [0]}

    def again(*arguments, **changes):
        return run(folder, {**small_workflow, **changes}, *arguments, source=source)

    again("results/demo/voc_val_miou.csv", "results/demo/report.html")
    table = folder / "results/demo/voc_val_miou.csv"
    first = table.read_bytes()
    rows = list(csv.DictReader(table.read_text().splitlines()))
    for row, what in zip(rows, ("iou", "iou_without_crf", "pseudo_label_iou"), strict=True):
        assert float(row["reproduced"]) == pytest.approx(100 * float(score(folder, "shapes", what)), abs=0.005)
    page = (folder / "results/demo/report.html").read_text()
    for part in ("voc_val_miou.svg", "history.svg", "classes_test.svg", "confusion_test.svg", "panels_test.png"):
        assert part in page
    provenance = json.loads((folder / "results/demo/experiments/shapes/provenance.json").read_text())
    assert {"made_from", "versions", "device", "seed", "commit"} <= set(provenance)

    again("results/demo/workflow_report.html")
    menu = (folder / "results/demo/workflow_report.html").read_text()
    assert "voc_val_miou.html" in menu
    assert "panels_test.png" in menu

    whole = ("results/demo/voc_val_miou.csv", "results/demo/report.html")
    assert "Nothing to be done" in again(*whole)
    for path in folder.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts:
            path.touch()
    assert "Nothing to be done" in again(*whole)
    for path in source.rglob("*"):
        path.touch()
    assert "Nothing to be done" in again(*whole)

    # A comment in the code is no change, another CRF begins with the masks, another rate with the training.
    phases = source / "getam" / "training" / "phases.py"
    phases.write_text("# a comment\n" + phases.read_text())
    assert "Nothing to be done" in again(*whole)
    other = json.loads(json.dumps(small_workflow["experiments"]))
    other["shapes"]["crf"]["iterations"] = 2
    found = rules(again("results/demo/voc_val_miou.csv", experiments=other))
    assert found == {"refine", "score", "table"}
    other["shapes"]["training"]["rate"] = 2e-3
    found = rules(again("results/demo/voc_val_miou.csv", "--dry-run", experiments=other))
    assert found == {"train_first_phase", "train", "predict", "label", "refine", "score", "table"}
    phases.write_text(phases.read_text().replace("return sum(", "return 1.0 * sum("))
    found = rules(again("results/demo/voc_val_miou.csv", "--dry-run"))
    assert {"train_first_phase", "train", "predict"} <= found
    assert not {"prepare", "saliency"} & found
    run(folder, small_workflow, "results/demo/voc_val_miou.csv")
    assert table.read_bytes() == first

    # Of stored predictions the table is made anew without a network.
    stored = tmp_path / "stored"
    files = ("experiment.yaml", "weights.safetensors", "provenance.json")
    for name in (*files, "test/probabilities", "test/pseudo_labels"):
        kept = Path("results/demo/experiments/shapes", name)
        (stored / kept).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (folder / kept).is_dir() else shutil.copy)(folder / kept, stored / kept)
    allowed = ("prepare", "refine", "score", "table")
    output = run(stored, small_workflow, "--allowed-rules", *allowed, "--", "results/demo/voc_val_miou.csv")
    assert rules(output) == set(allowed)
    assert (stored / "results/demo/voc_val_miou.csv").read_bytes() == first


def test_mean_spread_difference_and_state(tmp_path):
    scores = {"a": 0.712, "a-seed1": 0.724, "b": 0.601, "b-seed1": 0.611}
    for name, score in scores.items():
        path = tmp_path / "experiments" / name / "val" / "iou.csv"
        path.parent.mkdir(parents=True)
        summary = f"mIoU,{score}\nfrequency weighted IoU,0.7\npixel accuracy,0.8\nlabelled,1.0\n"
        path.write_text(f"class,iou\nbackground,0.9\n{summary}")
    common = vars(Row("near", experiment="a", tolerance=1.0, paper=71.0))
    seeds = ["a", "a-seed1"]
    rows = [
        (common, seeds, []),
        ({**common, "row": "far", "paper": 73.0}, seeds, []),
        ({**common, "row": "of our own", "paper": None}, seeds, []),
        ({**common, "row": "difference", "paper": 11.0, "minus": "b"}, seeds, ["b", "b-seed1"]),
        ({**common, "row": "server", "paper": 72.3, "experiment": None, "submission": "a"}, [], []),
        ({**common, "row": "never", "paper": 64.7, "experiment": None, "state": "not run: no network"}, [], []),
    ]
    rows = [{"row": row, "runs": runs, "minus_runs": minus} for row, runs, minus in rows]
    output = SimpleNamespace(csv=tmp_path / "table.csv")
    params = SimpleNamespace(experiments=tmp_path / "experiments", rows=rows, title="t")
    call = SimpleNamespace(output=_Files(output, []), params=params, log=[tmp_path / "log"])
    runpy.run_path(str(ROOT / "workflow" / "scripts" / "table.py"), {"snakemake": call})
    found = {row["row"]: row for row in csv.DictReader(output.csv.read_text().splitlines())}
    near = found["near"]
    assert [near[key] for key in ("paper", "reproduced", "difference", "tolerance", "state", "seeds")] == [
        "71.0",
        "71.8",
        "0.8",
        "1.0",
        "reproduced",
        "2",
    ]
    assert float(near["spread"]) == pytest.approx(1.2 / 2**0.5, abs=0.005)
    assert (found["far"]["difference"], found["far"]["state"]) == ("-1.2", "differs")
    assert (found["of our own"]["difference"], found["of our own"]["state"]) == ("", "measured, nothing published")
    assert float(found["difference"]["reproduced"]) == pytest.approx(11.2, abs=0.005)
    assert (found["difference"]["experiment"], found["difference"]["state"]) == ("a - b", "reproduced")
    assert found["server"]["state"] == "not reproducible: only the evaluation server can score voc_test/a.tar.gz"
    assert (found["never"]["reproduced"], found["never"]["state"]) == ("", "not run: no network")


class _Files(list):
    """Snakemake's output: by name, and in order."""

    def __init__(self, named, others):
        super().__init__([named.csv, *others])
        self.csv = named.csv


PARTS = ("Snakefile", "workflow", "config", "getam", "csrc", "profiles")


def score(folder, name, what):
    lines = (folder / f"results/demo/experiments/{name}/test/{what}.csv").read_text().splitlines()
    return dict(csv.reader(lines))["mIoU"]


# Modules without effect on what a script writes: they find the files that its rule declares.
FINDING = {"evaluation.run"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("workflow/scripts/*.py")), ids=lambda path: path.name)
def test_the_digests_of_a_rule_cover_its_script(path):
    imported = set(re.findall(r"^from getam\.([\w.]+) import", path.read_text(), re.MULTILINE)) - FINDING
    rules = [
        rule
        for file in ROOT.glob("workflow/rules/*.smk")
        for rule in re.split(r"^rule ", file.read_text(), flags=re.MULTILINE)
        if f'"../scripts/{path.name}"' in rule
    ]
    assert rules
    for rule in rules:
        assert re.search(rf'digest_of\(\s*"{path.name}"', rule)
        (named,) = re.findall(r"step_digest\((.*?)\)", rule, re.DOTALL) or [""]
        covered = modules_of_step(*re.findall(r'"([\w.]+)"', named))
        assert {f"getam.{name}" for name in imported} <= covered


# Placeholders of shell commands that need no quotes: numbers, names of wildcards (letters and digits), and text that is
# quoted already, a command or its options.
PLAIN = {"threads", "wildcards.split", "wildcards.score", "wildcards.run"} | {
    f"params.{name}"
    for name in (
        *(
            "again",
            "batch",
            "device",
            "discard",
            "first_phase",
            "kind",
            "manifests",
            "name",
            "only",
            "options",
            "program",
        ),
        *("shard", "splits", "verify", "what"),
    )
}


@pytest.mark.parametrize("path", sorted(ROOT.glob("workflow/rules/*.smk")), ids=lambda path: path.name)
def test_shell_commands_quote_their_paths(path):
    commands = re.findall(r"^    shell:\n((?:        .*\n)+)", path.read_text(), re.MULTILINE)
    placeholders = {name for text in commands for name in re.findall(r"(?<!\{)\{([^{}]+)\}", text)}
    assert {name for name in placeholders if not name.endswith(":q")} <= PLAIN


@pytest.mark.slow
def test_paths_with_spaces(tmp_path, small_workflow):
    source = tmp_path / "my repo"
    subprocess.run(["cp", "-r", *(str(ROOT / part) for part in PARTS), str(source.mkdir() or source)], check=True)
    folder = tmp_path / "my work"
    folder.mkdir()
    small_workflow |= {"shards": 1, "seeds": [0], "pathvars": {"results": "my results"}}
    small_workflow["tables"]["voc_val_miou"]["rows"] = small_workflow["tables"]["voc_val_miou"]["rows"][:1]
    targets = ("my results/voc_val_miou.csv", "my results/report.html", "my results/voc_val_miou/shapes.csv")
    (source / "an environment").symlink_to(sys.prefix)
    python = source / "an environment" / "bin" / "python"
    run(folder, small_workflow, *targets, source=source, python=python)
    assert all((folder / target).is_file() for target in targets)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path, small_workflow):
    """It is found before the first job; without that check, when the training begins."""
    small_workflow |= {"device": "cuda", "experiments": {"shapes": small_workflow["experiments"]["shapes"]}}
    output = run(tmp_path, small_workflow, status=1)
    assert "This machine cannot run what was asked for (--config preflight=false skips this check)" in output
    assert re.search(r"^\d+ jobs need a GPU, and (there is no nvidia-smi|torch is built without CUDA)", output, re.M)
    assert not list(tmp_path.glob("res*/*"))
    small_workflow |= {"preflight": False}
    output = run(tmp_path, small_workflow, "--retries", 0, status=1)
    assert "getam: error: device: GPU 0 is asked for" in output
    assert "auto and cpu do without" in output


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path, small_workflow):
    """Snakemake or the trainer dies five times; the same command ends with the table of an undisturbed run."""
    small_workflow |= {"seeds": [0], "shards": 1}
    table = small_workflow["tables"]["voc_val_miou"]
    table["rows"] = table["rows"][:1]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        folder.mkdir()
    started = time.monotonic()
    run(undisturbed, small_workflow)
    seconds = time.monotonic() - started
    chance = random.Random(0)
    (killed / "own.yaml").write_text(yaml.safe_dump(small_workflow))
    kills = 0
    for attempt in range(5):
        process = subprocess.Popen(
            command("--cores", 2, "--configfile", "own.yaml"),
            cwd=killed,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.05, 0.25) * seconds)
        kills += process.poll() is None
        for victim in trainers(killed) if attempt % 2 else []:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        # Without its trainer, if that is not dead: an orphan goes on beside the next call.
        process.kill()
        process.wait()
    assert kills >= 4
    run(killed, small_workflow)
    result = "results/demo/voc_val_miou.csv"
    assert (killed / result).read_bytes() == (undisturbed / result).read_bytes()


def trainers(folder):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"train" in words and (process / "cwd").readlink() == folder:
                found.append(int(process.name))
        except OSError:
            continue
    return found


FORCED = [
    ((), 0),
    (("--forcerun", "prepare"), 0),
    (("--forcerun", "train"), 1),
    (("--forcerun", "results/experiments/voc_deit/weights.safetensors"), 1),
    (("--forcerun", "train_first_phase"), 2),
    (("--forceall",), 2),
    (("--force",), 0),
]


@pytest.mark.parametrize(
    ("words", "expected"), FORCED, ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value)
)
def test_what_is_trained_again(tmp_path, words, expected):
    """A training is taken for finished or resumed, unless its rule, its output or its first phase is forced."""
    target = "results/experiments/voc_deit/val/iou.csv"
    output = snakemake(tmp_path, "--dry-run", "-p", *words, "--", target)
    trainings = [line for line in output.splitlines() if "getam train" in line]
    assert len(trainings) == 2
    assert sum(bool(re.search(r" --again [0-9a-f]{32} ", line)) for line in trainings) == expected


@pytest.mark.slow
def test_a_forced_training_trains(tmp_path, small_workflow):
    small_workflow |= {"seeds": [0]}
    weights = "results/demo/experiments/shapes/weights.safetensors"
    run(tmp_path, small_workflow, weights)
    first = (tmp_path / weights).read_bytes()
    assert rules(run(tmp_path, small_workflow, "--forcerun", "train", "--", weights)) == {"train"}
    log = (tmp_path / "results/demo/logs/train/shapes.log").read_text()
    assert "is discarded: it is to be trained again" in log
    assert "is there already" not in log
    assert (tmp_path / weights).read_bytes() == first
