"""Imports go one way, the public names are fixed, and the command line answers without torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pellucid

SOURCE = Path(pellucid.__file__).parent
# each room and the rooms that it may import; what stands in no list is refused
BASE = {"errors", "config", "device", "files"}
MAY_IMPORT = {
    "errors": set(),
    "config": {"errors"},
    "device": {"errors"},
    "files": {"errors"},
    "run": BASE,
    "data": BASE | {"data"},
    "model": BASE | {"data", "model"},
    "evaluation": BASE | {"run", "data", "model", "evaluation"},
    "training": BASE | {"run", "data", "model", "evaluation", "training"},
    "explain": BASE | {"run", "data", "model", "evaluation", "explain"},
    "lessons": BASE | {"run", "data", "model", "evaluation", "explain", "lessons"},
    "terminal": BASE,
    "demo": BASE | {"run", "data", "model", "evaluation", "training"},
    "cli": BASE | {"run", "data", "model", "evaluation", "training", "explain", "terminal", "demo", "cli"},
}
PUBLIC = [
    "Check", "Classifier", "Dataset", "Evaluation", "PellucidError", "PixelContract", "Prediction", "Run", "Spec",
    "check", "evaluate", "fit", "load", "load_pretrained", "make_splits", "open_dataset", "parse_spec", "predict_files",
    "resume", "summarize", "train",
]  # fmt: skip


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST) -> set[str]:
    """Rooms that a module imports when it runs; imports for type checkers only do not count."""
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for node in ast.walk(branch)
    }
    rooms = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("pellucid.")}
    return rooms


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_go_one_way(file: Path) -> None:
    room = room_of(file)
    if room == "__init__":
        return
    assert room in MAY_IMPORT, f"{room} has no place in the order of imports yet"
    upwards = imported_rooms(ast.parse(file.read_text())) - MAY_IMPORT[room]
    assert not upwards, f"{room} must not import {upwards}"


def test_an_upward_import_would_be_seen() -> None:
    assert imported_rooms(ast.parse("def f():\n    from pellucid.training.loop import fit")) == {"training"}
    assert imported_rooms(ast.parse("if TYPE_CHECKING:\n    from pellucid.run import Run")) == set()


def test_public_names() -> None:
    assert pellucid.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(pellucid, name).__doc__, f"{name} has no docstring"


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = pellucid.trian


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_imports_no_torch(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['pellucid', *{arguments!r}]\n"
        "from pellucid.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'sklearn', 'timm'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_second_check_imports_no_torch(tmp_path: Path) -> None:
    """What is known needs no arithmetic, and torch takes longer to import than the rest takes together."""
    for i in range(4):
        Image.fromarray(np.full((30, 30, 3), 50 * i, np.uint8)).save(tmp_path / f"{i}.png")
    rows = "\n".join(f"{i}.png,{'ab'[i % 2]}" for i in range(4))
    (tmp_path / "table.csv").write_text(f"path,label\n{rows}\n")
    code = (
        f"import sys; sys.argv = ['pellucid', 'check', {str(tmp_path / 'table.csv')!r}, '--no-near']\n"
        "from pellucid.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'timm', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["--version"], 0, pellucid.__version__), (["check"], 2, "DATA"), (["check", "/no/where"], 1, "no/where")],
)
def test_the_command_says_what_it_has_to_and_leaves_with_its_code(arguments: list[str], code: int, said: str) -> None:
    script = "from pellucid.cli import command; command()"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_nothing_that_runs_foreign_code() -> None:
    forbidden = (r"pickle\.load", "weights_only=False", r"yaml\.load", r"(?<![\w.])eval\(", r"exec\(", "extractall")
    for file in SOURCE.rglob("*.py"):
        text = file.read_text().replace("safetensors.torch.save_file(torch.load(", "")
        for pattern in forbidden:
            assert not re.search(pattern, text), f"{file.name} uses {pattern}"
