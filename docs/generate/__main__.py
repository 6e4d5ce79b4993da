"""`python -m docs.generate` writes every generated page."""

from docs.generate.pages import PAGES, path_of

for name, page in PAGES.items():
    path_of(name).write_text(page(), encoding="utf-8")
    print(path_of(name))
