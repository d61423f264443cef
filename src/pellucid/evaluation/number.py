"""Scores of a network that answers with a number: how far it is off, in the number's unit, with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pellucid.data.wording import rounded
from pellucid.errors import DataError
from pellucid.evaluation.intervals import Interval, group_numbers, percentiles, resamples, spread, wilson
from pellucid.evaluation.metrics import MAX_WORST, few_notes, require_measurable
from pellucid.evaluation.text import counted, percent, printable, shorten

_USEFUL = 0.1  # of the error saved, or of the differences explained: with less, a network is hardly better


@dataclass(frozen=True)
class Miss:
    """A picture with its true number and the answer; `index` is its row."""

    path: str
    truth: float
    answer: float
    index: int


@dataclass(frozen=True, eq=False)
class NumberEvaluation:
    """What one split says. `mae` and `rmse` are in the unit of the number `name`, as is `bias`, the mean of answer - truth.

    `within`: the share of true numbers no farther than `margin` from the answer, which is made to hold 90 % of them; both
    None without a margin. `r2` is scikit-learn's. `baseline` always answers the training part's median, and its mean.
    `truth` and `answers` are float (N,); `worst` holds the pictures that are farthest off.
    """

    split: str
    name: str
    n: int
    mae: Interval
    rmse: Interval
    r2: Interval
    bias: Interval
    margin: float | None
    within: Interval | None
    baseline: Mapping[str, Mapping[str, float]]
    truth: np.ndarray
    answers: np.ndarray
    worst: tuple[Miss, ...]
    interval_method: str
    notes: tuple[str, ...]

    def written(self, value: float) -> str:
        """A number or a difference of numbers with as many decimals as matter here."""
        return rounded(value, self.baseline["mean"]["rmse"] / 100)

    def interval(self, found: Interval) -> str:
        """An interval in the unit of the number."""
        if not math.isfinite(found.low):
            return self.written(found.value)
        return f"{self.written(found.value)} ({self.written(found.low)} to {self.written(found.high)})"

    def verdict(self) -> tuple[str, ...]:
        """The result in a few plain sentences."""
        return tuple(_verdict(self))

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; what is undefined is None."""
        return {
            "split": self.split,
            "name": self.name,
            "n": self.n,
            "mae": self.mae.to_dict(),
            "rmse": self.rmse.to_dict(),
            "r2": self.r2.to_dict(),
            "bias": self.bias.to_dict(),
            "margin": self.margin,
            "within": None if self.within is None else self.within.to_dict(),
            "interval_method": self.interval_method,
            "baseline": {name: dict(content) for name, content in self.baseline.items()},
            "worst": [asdict(miss) for miss in self.worst],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return "\n".join(_table(self))


def evaluate_numbers(
    truth: np.ndarray,
    answers: np.ndarray,
    name: str,
    *,
    paths: Sequence[str],
    groups: Sequence[Any] | None = None,
    split: str = "test",
    training: np.ndarray | None = None,
    margin: float | None = None,
    seed: int = 0,
) -> NumberEvaluation:
    """Measures answers (N,) or (N, 1) against true numbers of the same shape, called `name`.

    `training` are the numbers of the training pictures, for the baseline; by default the split's own. `margin` is what the
    classifier claims about its answers. A group is resampled as a whole. Raises DataError when these cannot be measured.
    """
    truth, answers = np.asarray(truth, np.float64), np.asarray(answers, np.float64)
    require_measurable(answers, labels=truth, answers=answers, paths=paths, groups=groups)
    if truth.shape != answers.shape or truth.size != len(truth):
        raise DataError(
            f"Numbers of shape {truth.shape} and answers of shape {answers.shape}; expected one of each a picture."
        )
    truth, answers = truth.ravel(), answers.ravel()
    n, off = len(truth), answers - truth
    group_of = None if groups is None else group_numbers(groups)
    num_groups = 0 if group_of is None else int(group_of.max()) + 1

    # all scores are functions of these means, so a draw is one product of matrices
    middle = truth.mean()
    columns = np.stack(
        [abs(off), off**2, off, truth - middle, (truth - middle) ** 2, abs(off) <= (margin or 0.0)], axis=1
    )
    drawn = np.concatenate([weight @ columns / weight.sum(1, keepdims=True)
                            for weight in resamples(n, groups=group_of, seed=seed)])  # fmt: skip
    value, draws = _scores(columns.mean(0, keepdims=True)), _scores(drawn)
    mae, rmse, r2, bias = (
        spread(float(v[0]), d, units=num_groups if num_groups > 1 else n) for v, d in zip(value, draws, strict=True)
    )
    within = None
    if margin is not None:
        within = wilson(int(columns[:, 5].sum()), n)
        if num_groups > 1:
            within = percentiles(within.value, drawn[:, 5], trials=num_groups)
    learned = truth if training is None else np.asarray(training, np.float64).ravel()
    median, mean = float(np.median(learned)), float(learned.mean())
    farthest = np.argsort(-abs(off), kind="stable")[:MAX_WORST]
    return NumberEvaluation(
        split=split, name=name, n=n, mae=mae, rmse=rmse, r2=r2, bias=bias, margin=margin, within=within,
        baseline={
            "median": {"number": median, "mae": float(abs(truth - median).mean())},
            "mean": {"number": mean, "rmse": float(((truth - mean) ** 2).mean() ** 0.5)},
        },
        truth=truth, answers=answers,
        worst=tuple(Miss(str(paths[i]), float(truth[i]), float(answers[i]), int(i)) for i in farthest),
        interval_method=f"bootstrap over {counted(num_groups, 'group') if num_groups > 1 else 'pictures'}",
        notes=tuple(few_notes(n, num_groups)),
    )  # fmt: skip


def mae_interval(truth: np.ndarray, answers: np.ndarray) -> Interval:
    """The mean absolute error with its bootstrap interval; both (N, 1) or (N,)."""
    off = abs(np.asarray(answers, np.float64) - truth).ravel()
    return spread(
        float(off.mean()),
        np.concatenate([weight @ off / weight.sum(1) for weight in resamples(len(off))]),
        units=len(off),
    )


def _scores(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """MAE, RMSE, R^2 and bias (D,) from the means (D, columns) of |off|, off^2, off, truth and truth^2."""
    mae, squared, bias, first, second = means[:, :5].T
    variance = second - first**2
    r2 = 1 - np.divide(squared, variance, out=np.full(len(means), np.nan), where=variance > 1e-9 * second.max())
    return mae, squared**0.5, r2, bias


def _verdict(e: NumberEvaluation) -> Iterator[str]:
    name = shorten(e.name, 60)
    yield (
        f"On {counted(e.n, f'{printable(e.split)} picture')} the answer for '{name}' is {e.written(e.mae.value)} off on average, "
        f"with a 95 % interval from {e.written(e.mae.low)} to {e.written(e.mae.high)} (mean absolute error, {e.interval_method})."
    )
    median = e.baseline["median"]
    yield (
        f"Always answering {e.written(median['number'])}, the median of the training pictures, would be "
        f"{e.written(median['mae'])} off; the network is {_better(e)}."
    )
    if math.isfinite(e.r2.value):
        share = percent(e.r2.value) if e.r2.value > 0 else "none"
        yield f"It explains {share} of the differences between pictures: R² {e.r2}."
    off, direction = e.written(abs(e.bias.value)), "high" if e.bias.value > 0 else "low"
    chance = ", which may be chance" if e.bias.low <= 0 <= e.bias.high else ""
    leans = (
        f"{off} too {direction} on average{chance}"
        if float(off.replace(",", ""))
        else "neither too high nor too low on average"
    )
    yield f"It answers {leans} (bias {e.interval(e.bias)})."
    if e.within is not None and e.margin is not None:
        held = e.within
        judgment = (
            "as it should"
            if held.low <= 0.9 <= held.high
            else "more often than it should"
            if held.low > 0.9
            else "too rarely"
        )
        yield (
            f"The interval around its answers, ± {e.written(e.margin)}, is made to hold nine true numbers in ten; it holds "
            f"{percent(held.value)} ({percent(held.low)} to {percent(held.high)}), {judgment}."
        )
    worst = e.worst[0]
    yield f"At worst it is {e.written(abs(worst.answer - worst.truth))} off: it says {e.written(worst.answer)} where {e.written(worst.truth)} is true."


def _better(e: NumberEvaluation) -> str:
    """With many pictures a difference too small to be of use is certain too, so that certainty alone is not enough."""
    always = e.baseline["median"]["mae"]
    if e.mae.high >= always:
        return "not clearly better than that"
    return "clearly better" if e.mae.high <= (1 - _USEFUL) * always or e.r2.low >= _USEFUL else "hardly better"


def _table(e: NumberEvaluation) -> Iterator[str]:
    yield from e.verdict()
    yield ""
    rows = [("score", "this network", "always the median or mean"),
            ("mean absolute error", e.interval(e.mae), e.written(e.baseline["median"]["mae"])),
            ("root mean square error", e.interval(e.rmse), e.written(e.baseline["mean"]["rmse"])),
            ("R²", str(e.r2), "0 at most"), ("bias", e.interval(e.bias), "")]  # fmt: skip
    width = max(len(row[1]) for row in rows)
    for title, own, other in rows:
        yield f"{title:<22}  {own:<{width}}  {other}".rstrip()
    for note in e.notes:
        yield ""
        yield f"Note: {printable(note)}"
