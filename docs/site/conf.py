"""The site: `make docs` builds it from the pages of the repository, which are its only source.

The root of the sources is the repository, so that every relative link of a page leads to the same place here and on
GitHub. Links to files that are no page become links into the repository, if SITE_REPOSITORY names it (as in
.github/workflows/site.yml), or else downloads.
"""

import os
import re
import shutil
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_REPOSITORY = os.environ.get("SITE_REPOSITORY", "").rstrip("/")  # https://HOST/OWNER/NAME/blob/COMMIT
_REPORT = _ROOT / "results" / "demo" / "report.html"

project = "GETAM"
author = "the authors of this reproduction"
version = re.search(r'^version = "(.+)"', (_ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
copyright = "Apache-2.0"
language = "en"

extensions = ["myst_parser", "sphinx_copybutton"]
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/*.md",
    "docs/**/*.md",
    "config/README.md",
    "csrc/README.md",
]
exclude_patterns = ["docs/site", "docs/generate"]
root_doc = "README"
myst_heading_anchors = 4
nitpicky = True

html_theme = "furo"
html_title = f"GETAM {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"

_EMBEDDED = """
## The report of the demo

<p><a href="../../demo/report.html">On a page of its own</a></p>
<iframe class="report" src="../../demo/report.html" title="The report of the demo"></iframe>
"""
_FIRST = f"""<!doctype html>
<meta charset="utf-8">
<title>GETAM</title>
<meta http-equiv="refresh" content="0; url={root_doc}.html">
<a href="{root_doc}.html">GETAM</a>
"""
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def _read(app, name: str, source: list[str]) -> None:
    """Adds to a page what only the site has: the contents, the demo's report, and links into the repository."""
    folder = Path(app.env.doc2path(name)).parent
    text = _LINK.sub(lambda link: _resolved(app, folder, link), source[0])
    if name == root_doc:
        text += _contents()
    if name == "docs/results/shapes" and _REPORT.is_file():
        text += _EMBEDDED
    source[0] = text


def _contents() -> str:
    """The site's navigation: the sections of docs/README.md and the pages that each one lists, by the links' texts."""
    index = (_ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    text = "\n```{toctree}\n:hidden:\n\nAll pages <docs/README>\n```\n"
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        title = section.split("\n", 1)[0]
        pages = [
            f"{words[:1].upper()}{words[1:]} <{(Path('docs') / target).as_posix()}>"
            for words, target in re.findall(r"\[([^\]]+)\]\(([^)#\s]+)\.md\)", section)
        ]
        text += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""])
    return text.replace("docs/../", "")


def _resolved(app, folder: Path, link: re.Match) -> str:
    """A link to something that is no page: into the repository; without one, a folder's link is its text."""
    path = (folder / link[2]).resolve()
    if not path.is_relative_to(_ROOT) or not path.exists():
        return link[0]  # Sphinx says that it leads nowhere
    name = path.relative_to(_ROOT).as_posix()
    if name.removesuffix(".md") in app.env.found_docs:
        return link[0]
    if _REPOSITORY:
        return f"[{link[1]}]({_REPOSITORY}/{name}{link[3] or ''})"
    return link[1] if path.is_dir() or not path.suffix else link[0]


def _finish(app, error: Exception | None) -> None:
    """The address of the site is its first page; the report lies beside it."""
    if error is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    (folder / "index.html").write_text(_FIRST, encoding="utf-8")
    (folder / ".nojekyll").touch()  # GitHub would leave out folders such as _static
    if _REPORT.is_file():
        (folder / "demo").mkdir(exist_ok=True)
        shutil.copyfile(_REPORT, folder / "demo" / "report.html")


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    app.connect("build-finished", _finish)
