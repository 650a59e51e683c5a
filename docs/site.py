"""What the pages need that MkDocs does not do: links into the checkout, and the table of spec keys."""

import json
import logging
import re
from pathlib import Path

from qsens.core.schema import load_schema
from qsens.core.spec import SweepSpec

LINK = re.compile(r"\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)")
log = logging.getLogger("mkdocs.hooks.qsens")


def on_page_markdown(markdown, page, config, files):
    """Links to files of the checkout that are no pages become their paths; a dead one is a warning."""
    docs = Path(config["docs_dir"])
    folder = (docs / page.file.src_uri).parent

    def linked(match):
        target = (folder / match[2]).resolve()
        if target.is_relative_to(docs) and not target.is_dir():
            return match[0]  # MkDocs itself looks after its pages
        if not target.exists():
            log.warning("%s: no file %s", page.file.src_uri, match[2])
        path = target.relative_to(docs.parent).as_posix()
        return f"`{path}`" if path in match[1] else f"{match[1]} (`{path}`)"

    return LINK.sub(linked, markdown).replace("{{ spec_keys }}", _spec_keys())


def _spec_keys():
    """The keys of a spec, what they take, and their defaults, by schema and dataclass."""
    defaults = SweepSpec().to_mapping()
    rows = [
        f"| `{key}` | {entry.get('description', 'a table')} | {_shown(defaults.get(key))} |"
        for key, entry in load_schema("spec")["properties"].items()
    ]
    return "\n".join(["| key | takes | default |", "|---|---|---|", *rows])


def _shown(value):
    return "" if value is None or value in ([], {}) else f"`{json.dumps(value)}`"
