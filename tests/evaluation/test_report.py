"""The report's page, from files that a run would have."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from getam.data.visualisation import draw_sheet, label_colours
from getam.evaluation.report import ReportedRun, ReportedTable, report

TABLE = """row,split,paper,reproduced,spread,difference,tolerance,state,experiment,seeds,saliency,source,note
ViT <B>,val,71.7,71.2,0.31,-0.5,1.0,reproduced,a,3,authors,text,
DeiT,val,66.0,60.0,,-6.0,1.0,differs,b,1,authors,README,one seed
CNN,val,64.7,,,,,not reproducible: unknown,,,,text,
"""
SCORE = "class,iou\nbackground,0.9\ncat,0.5\nmIoU,0.7\nfrequency weighted IoU,0.8\npixel accuracy,0.85\nlabelled,1.0\n"


@pytest.fixture
def page(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    for name in ("bars.svg", "classes.svg"):
        (tmp_path / name).write_text("<svg xmlns='http://www.w3.org/2000/svg'></svg>")
    folder = tmp_path / "run"
    (folder / "val").mkdir(parents=True)
    (folder / "val" / "iou.csv").write_text(SCORE)
    (folder / "experiment.yaml").write_text("name: a\n")
    provenance = {
        "experiment": "a",
        "device": "CPU",
        "versions": {"torch": "2"},
        "first_phase": {"seconds_of_the_last_session": 60.0},
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))
    jobs = []
    for rule, seconds, memory in (("predict", 30.0, 512.4), ("train", 90.0, "-")):
        jobs.append(tmp_path / rule / "a.tsv")
        jobs[-1].parent.mkdir()
        jobs[-1].write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:00\t{memory}\n")
    table = ReportedTable("Table 4: VOC", tmp_path / "t.csv", tmp_path / "bars.svg", "<p>Bars.</p>")
    run = ReportedRun("a", "val", folder, {"classes": (tmp_path / "classes.svg", "<p>Each class.</p>")}, jobs)
    return report("Results", "<p>Hello.</p>", [table], [run])


def text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("</style>")[1]))


def test_tables_come_first_and_show_the_paper_beside_ours(page):
    shown = text(page)
    assert "3 rows: 1 reproduced, 1 differs, 1 not reproducible." in shown
    assert "ViT &lt;B&gt; val 71.7 71.2 ± 0.3 -0.5 1 reproduced 3 authors source: text" in shown
    assert "DeiT val 66 60.0 -6 1 differs 1 authors source: README; one seed" in shown
    assert "CNN val 64.7 - - - not reproducible: unknown - - source: text" in shown
    assert re.findall(r"<tr class='(\w[^']*)'", page)[:3] == ["reproduced", "differs", "not reproducible"]
    assert page.index("Table 4: VOC") < page.index("a, on val")


def test_scores_cost_and_origin_of_a_run(page):
    shown = text(page)
    assert "masks 70.0 80.0 85.0 100.0" in shown
    order = [
        shown.index(words)
        for words in ("train_first_phase", "train a 0:01:30 -", "predict a 0:00:30 512", "all 0:03:00")
    ]
    assert order == sorted(order)
    assert "Trained on CPU." in shown
    assert "name: a" in shown


def test_the_page_is_whole_and_its_navigation_leads_somewhere(page):
    anchors = re.findall(r"href='#([^']+)'", page)
    identifiers = re.findall(r" id='([^']+)'", page)
    assert sorted(anchors) == sorted(identifiers)
    assert len(set(identifiers)) == len(identifiers)
    assert not re.findall(r"(?:src|href)='(?!data:|#)", page)
    assert page.count("<figcaption>") == page.count("<img ") == 2


def test_the_legend_is_below_the_pictures(tmp_path):
    legend = label_colours(["cat", "dog"], {0, 2, 255})
    assert legend == [("dog", (0, 128, 0)), ("unknown", (255, 255, 255))]
    picture = np.zeros((10, 10, 3), np.uint8)
    draw_sheet(tmp_path / "plain.png", ["image"], [("", [picture])], 40)
    draw_sheet(tmp_path / "legend.png", ["image"], [("", [picture])], 40, legend)
    plain, sheet = (np.array(Image.open(tmp_path / f"{name}.png")) for name in ("plain", "legend"))
    assert sheet.shape[0] > plain.shape[0]
    assert (sheet[: len(plain)] == plain).all()
    assert (sheet[len(plain) :] == (0, 128, 0)).all(-1).any()
