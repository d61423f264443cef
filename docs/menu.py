"""A hook of mkdocs: puts every decision page into the menu, so that a new one needs no entry in mkdocs.yml."""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Appends the pages of docs/decisions, in their order."""
    pages = sorted(Path(config["docs_dir"], "decisions").glob("*.md"))
    config["nav"].append({"Decisions": [f"decisions/{page.name}" for page in pages]})
    return config
