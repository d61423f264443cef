"""The way from a network's last numbers, the logits, to its answer: mirrored, shifted, calibrated, and the softmax."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from pellucid.data.task import LABELS, NUMBER
from pellucid.errors import ConfigError
from pellucid.explain.trace import Value
from pellucid.explain.work import Index, Work, look, n, softmax
from pellucid.model.classifier import Classifier

ANSWER = "answer"  # as if it were the last layer
_LOGITS = "logits"


def work_out_answer(
    classifier: Classifier, pixels: np.ndarray, channel: int | None
) -> tuple[tuple[Work, ...], Index, Index]:
    """The works that make the probability of class number `channel` (by default the most probable one) of the picture uint8
    (H, W, C), the shape of the answer and the position in it. A number, which has no probability, is put into its unit.

    Raises ConfigError for a class that there is not.
    """
    x = classifier.contract.tensor(pixels[None])
    with classifier.answering(), torch.no_grad():
        views = [classifier.module(view)[0] for view in ([x, x.flip(3)] if classifier.mirror else [x])]
        found = classifier.logits(x)
    answer = classifier.answers(found)[0]
    count = len(answer)
    k = int(answer.argmax()) if channel is None else channel
    if not 0 <= k < count:
        raise ConfigError(f"class {k} is out of range: the classifier knows {count} classes, 0 to {count - 1}.")

    calibrated = (classifier.calibration(found) if classifier.calibration else found)[0]
    logit, offset = float(found[0, k]), classifier.offsets[k] if classifier.offsets else None
    works = []
    if classifier.mirror:
        works.append(_mirrored([float(view[k]) for view in views], offset, logit))
    elif offset is not None:
        works.append(_line("offset for the shares of the classes", float(views[0][k]), 1.0, offset, logit))
    if calibration := classifier.calibration:
        scale, shift = (float(np.broadcast_to(v, count)[k]) for v in (calibration.scale, calibration.offset))
        works.append(_line(f"calibration, {calibration}", logit, scale, shift, float(calibrated[k])))
    works.append(_last(classifier, calibrated, k, float(answer[k])))
    return tuple(works), (count,), (k,)


def _last(classifier: Classifier, logits: torch.Tensor, k: int, found: float) -> Work:
    window = look(Value(logits), np.arange(len(logits)))
    task = classifier.task
    if task.kind == NUMBER:
        return _line(f"in the unit of {classifier.classes[k]}", float(logits[k]), task.std, task.mean, found)
    if task.kind == LABELS:
        logit = float(logits[k])
        value = 1 / (1 + math.exp(-logit))
        formula = f"1 / (1 + exp(-{n(logit)})) = {n(value)}"
        return _of(
            [logit], [value], f"sigmoid, the probability of {classifier.classes[k]}", formula, None, value, found
        )
    whole = softmax(window, k, found)
    return replace(
        whole,
        operation=f"{whole.operation}; number {k} is {classifier.classes[k]}",
        sources=classifier.classes,
        given=(),
    )


def _mirrored(logits: list[float], offset: float | None, found: float) -> Work:
    products = [logit / 2 for logit in logits]
    value = sum(products) + (offset or 0.0)
    formula = (
        f"({n(logits[0])} + {n(logits[1])}) / 2" + ("" if offset is None else f" + {n(offset)}") + f" = {n(value)}"
    )
    words = "mean of the picture's and its mirror image's logit" + (
        "" if offset is None else ", and the class's offset"
    )
    return replace(_of(logits, products, words, formula, offset, value, found), weights=np.array([0.5, 0.5]))


def _line(words: str, x: float, scale: float, offset: float, found: float) -> Work:
    value = x * scale + offset
    formula = f"{n(x)} · {n(scale)} + {n(offset)} = {n(value)}"
    return replace(_of([x], [x * scale], words, formula, offset, value, found), weights=np.array([scale]))


def _of(
    inputs: list[float], products: list[float], words: str, formula: str, bias: float | None, value: float, found: float
) -> Work:
    scale = sum(map(abs, products)) + abs(bias or 0.0)
    return Work(
        words, formula, np.array(inputs), None, np.array(products), np.arange(len(inputs))[:, None], sum(products), bias,
        value, float(found), scale, sources=(_LOGITS,),
    )  # fmt: skip
