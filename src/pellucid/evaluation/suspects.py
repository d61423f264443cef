"""Which labels may be wrong: pictures whose label a classifier doubts that has not seen them, ranked for a person to judge.

The scores rest on out-of-fold probabilities, so that a network cannot have learned a wrong label by heart. They are
suggestions: many may be hard pictures with right labels, and nothing is changed before a person says so.
Source: confident learning, Northcutt et al. 2021, arXiv 1911.00068; which score ranks best was measured, see
docs/decisions/018-folds.md.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data.reopen import reopen
from pellucid.data.task import CLASS
from pellucid.data.verdicts import COLUMNS, read_verdicts
from pellucid.errors import RunError
from pellucid.evaluation.answers import read_answers
from pellucid.evaluation.folds import OUT_OF_FOLD
from pellucid.evaluation.page import PictureOf, card, how_trained, html_percent, render_page, safe, section, verdict
from pellucid.evaluation.series import picture_of
from pellucid.evaluation.text import counted, percent, printable, shorten
from pellucid.files import atomic_write
from pellucid.run import Run

_CARDS = 200  # pictures on the page; the table has all
_LINES = 10


@dataclass(frozen=True)
class Suspect:
    """A picture whose `label` is doubted. `score`, from 0 to 1, is low where the label is unlikely; `index` is its row."""

    path: str
    label: str
    suggested: str
    score: float
    index: int


@dataclass(frozen=True)
class Suspects:
    """Out of `n` labels those that are doubted, least likely first. `judged` have a verdict already and are not among them."""

    n: int
    found: tuple[Suspect, ...]
    judged: int
    table: Path
    page: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "n": self.n, "suspects": [vars(suspect) for suspect in self.found], "judged": self.judged,
            "csv": str(self.table), "html": str(self.page),
        }  # fmt: skip

    def sentences(self) -> list[str]:
        """What was found, in words."""
        if not self.found:
            return [f"None of {counted(self.n, 'label')} is doubted by the classifiers that did not see its picture."]
        return [
            f"{counted(len(self.found), 'label')} of {self.n:,} "
            f"{'is' if len(self.found) == 1 else 'are'} doubted ({percent(len(self.found) / self.n)}).",
            "Each was given another answer by a classifier that had not seen the picture. Some of them are wrong labels and some are pictures that are hard: these are suggestions, and nothing "
            "has been changed.",
            f"Write a class, ok or remove into the column verdict of {self.table}, for as many as you like; then train with "
            f"--verdicts {self.table}.",
        ]

    def __str__(self) -> str:
        lines = self.sentences()
        if self.judged:
            lines.append(
                f"{counted(self.judged, 'picture')} with a verdict are kept in the table, and not listed again."
            )
        if self.found:
            lines += ["", "least likely labels"]
            lines += [
                f"  {printable(s.path)}: is '{shorten(s.label, 32)}', rather '{shorten(s.suggested, 32)}'  ({s.score:.3f})"
                for s in self.found[:_LINES]
            ]
        return "\n".join(lines)


def find_suspects(run: Run | str | Path) -> Suspects:
    """Ranks the labels of a run of folds; writes reports/suspects.csv, to be filled in, and suspects.html, to look at.

    Verdicts that are in the table already stay there. Raises RunError when the run has no finished folds, or when it is not
    about one class a picture.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    content = run.read()
    if not content.get("config", {}).get("train", {}).get("folds") or "members" not in content:
        raise RunError(
            f"'{run}' is not a run of folds. A label can only be doubted by a classifier that has not learned it; train such with: "
            f"pellucid train {content.get('source', 'DATA')} --folds 5"
        )
    if content["task"]["kind"] != CLASS:
        raise RunError(
            f"'{run}' is about {content['task']['kind']}; suspects are only found where a picture has one class."
        )
    file = run.path / "reports" / OUT_OF_FOLD
    if not file.exists():
        raise RunError(f"'{run}' has not been put together yet. Do so with: pellucid evaluate {run}")
    answers = read_answers(file)
    dataset = reopen(content)
    verdicts = dict(content.get("verdicts", {}))  # of an earlier round; the table is about the labels before it
    labels = {item.path: dataset.label(i) for i, item in enumerate(dataset.items)}
    table, page = run.path / "reports" / "suspects.csv", run.path / "reports" / "suspects.html"
    if table.exists():
        verdicts |= read_verdicts(table, dataset)
    position = {name: k for k, name in enumerate(answers.outputs)}
    given = np.array([position[label] for label in answers.labels])
    scores, suggested = label_scores(given, answers.values)
    found = tuple(
        Suspect(answers.paths[i], answers.labels[i], answers.outputs[suggested[i]], float(scores[i]), i)
        for i in np.argsort(scores, kind="stable").tolist()
        if scores[i] < 0.5 and answers.paths[i] not in verdicts
    )
    rows = [(s.path, s.label, s.suggested, f"{s.score:.4f}", "") for s in found]
    rows += [(path, labels[path], "", "", word) for path, word in verdicts.items() if path in labels]
    if rows:
        _write_table(table, rows)
    suspects = Suspects(len(answers.paths), found, len(verdicts), table, page)
    atomic_write(page, _render(suspects, content, picture_of(content, answers.paths)).encode())
    return suspects


def label_scores(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How likely each label is, from 0 to 1, and the likeliest other class, (N,) both: the normalized margin between the two.

    labels int (N,), probabilities (N, K) out of fold. The score is (p(label) - largest other p + 1) / 2.
    """
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -1
    suggested = others.argmax(1)
    return (probabilities[rows, labels] - others[rows, suggested] + 1) / 2, suggested


def _write_table(file: Path, rows: Sequence[tuple[str, ...]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    atomic_write(file, text.getvalue().encode("utf-8", "surrogateescape"))


def _render(found: Suspects, content: dict[str, Any], picture: PictureOf) -> str:
    tiles = (
        ("Labels", f"{found.n:,}", "looked at"),
        ("Doubted", f"{len(found.found):,}", html_percent(len(found.found) / found.n)),
        ("With a verdict", f"{found.judged:,}", "from before"),
    )
    cards = "".join(
        card(picture, s.index, None, f"<b>{safe(s.suggested)}</b>", f"<b>{safe(s.label)}</b> ({s.score:.3f})", s.path)
        for s in found.found[:_CARDS]
    )
    shown = f" The first {_CARDS} of {len(found.found):,} are shown." if len(found.found) > _CARDS else ""
    why = (
        "<p>First what a classifier says that has not seen the picture, below it the label that the picture has, with its score: "
        f"1 is certain, 0.5 as likely as the other class, 0 impossible.{shown}</p>"
    )
    made = {"Pictures": content["source"], "Data fingerprint": content["fingerprint"], **how_trained(content)}
    sections = [verdict(found.sentences(), (), tiles)]
    if found.found:
        sections.append(section("Least likely labels first", f'{why}\n<div class="cards">{cards}</div>'))
    return render_page(f"{content['name']}: suspect labels", sections, made)
