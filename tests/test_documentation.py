"""Paths, links and modules that the documentation names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "config/*.md", "docs/**/*.md", "results/README.md", "resources/README.md", "csrc/*.md")
    for path in ROOT.glob(pattern)
)
OTHERS = sorted(
    path
    for pattern in (
        "Makefile",
        "Snakefile",
        ".ci/run",
        "docker/*",
        "config/*.yaml",
        "workflow/**/*.smk",
        ".github/**/*.yml",
    )
    for path in ROOT.glob(pattern)
)
SOURCES = sorted(
    path for folder in ("getam", "csrc", "benchmarks", "tests", "workflow") for path in (ROOT / folder).rglob("*.py")
)
# A path of this repository: below one of its folders, with a suffix of text or pictures, without placeholders.
PATH = re.compile(
    r"(?<![\w./<{}-])((?:getam|benchmarks|tests|workflow|config|docs|csrc|docker|envs|profiles|\.github)/[\w./-]+"
    r"\.(?:py|pyi|md|smk|yaml|yml|toml|csv|png|svg|cpp|h|sh|lock|json|rst))\b"
)
WRITTEN = re.compile(r"config/archives\.lock\.yaml|docs/\w+\.png$")  # by users, or named as an example


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=relative)
def test_paths_exist(page):
    text = page.read_text(encoding="utf-8")
    missing = {name for name in PATH.findall(text) if not (ROOT / name).exists() and not WRITTEN.fullmatch(name)}
    assert missing == set()


def test_paths_in_the_sources_exist():
    missing = {
        f"{relative(path)}: {name}"
        for path in SOURCES
        if path != Path(__file__)
        for name in PATH.findall("\n".join(re.findall(r'"""(?:.|\n)*?"""|#.*', path.read_text(encoding="utf-8"))))
        if not (ROOT / name).exists() and not WRITTEN.fullmatch(name)
    }
    assert missing == set()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text)
    headings = {path: anchors(path) for path in PAGES}
    for target in targets:
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor:
            assert anchor in headings[path], target


def test_every_page_is_in_the_index():
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", index.read_text())}
    assert set((ROOT / "docs").rglob("*.md")) - listed == {index}


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *SOURCES], ids=relative)
def test_programs_exist(page):
    for module in re.findall(r"python -m ((?:benchmarks|getam)[\w.]*)", page.read_text(encoding="utf-8")):
        folder = ROOT / "csrc" if module.startswith("getam_lattice") else ROOT
        path = folder.joinpath(*module.rstrip(".").split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def test_results_name_what_exists():
    for path in (ROOT / "benchmarks" / "results").glob("*.csv"):
        for name in re.findall(r"\bgetam(?:\.\w+)+", path.read_text(encoding="utf-8")):
            module = ROOT.joinpath(*name.split(".")[:-1]).with_suffix(".py")
            whole = ROOT.joinpath(*name.split("."))
            public = (ROOT / "getam" / "__init__.pyi").read_text()
            known = whole.with_suffix(".py").is_file() or module.is_file()
            assert known or re.search(rf"\b{name.split('.')[-1]}\b", public), f"{relative(path)}: {name}"
