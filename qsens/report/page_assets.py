"""Style sheet and scripts of the report page; all are written into it, nothing is fetched."""

from importlib.resources import files

# One scope, in this order: later files use what earlier ones define.
_SCRIPTS = ("page.js", "pictures.js", "card.js", "charts.js", "chart_kinds.js", "walk.js", "start.js")


def read_asset(name: str) -> str:
    """The text of a file that comes with the report."""
    return (files("qsens.report") / "assets" / name).read_text(encoding="utf-8")


def interactive_script() -> str:
    """The script of a page with charts: one scope around all of its files."""
    return "\n".join(('(() => {\n"use strict";', *map(read_asset, _SCRIPTS), "})();"))


def static_script() -> str:
    """The script of a page without charts: tables, theme and the switch between runs."""
    return "\n".join(('(() => {\n"use strict";', read_asset("page.js"), "startPage();", "})();"))


STYLE = read_asset("page.css")
