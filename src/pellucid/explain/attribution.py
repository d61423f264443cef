"""Heat maps: which places of a picture speak for an answer, by five methods of captum.

A map is float32 (H, W) over the picture as the network sees it, positive where it speaks for the answer. What is explained is
the score before the softmax (or sigmoid), of a number the number itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pellucid.errors import ConfigError, UnknownNameError, nearest
from pellucid.explain.map_layer import MapLayer, as_maps, changed
from pellucid.model.classifier import Classifier

_IG_STEPS = 24
_NOISE, _NOISE_SAMPLES = 0.15, 16  # of the range of the picture's values
_WINDOWS = 7  # occluding windows side by side
_PLAYERS, _ORDERS = 7, 4  # cells of a side that Shapley values are given to; orders in which they come

Score = Callable[[torch.Tensor], torch.Tensor]  # float32 (N, C, H, W) -> (N,)


@dataclass(frozen=True)
class Target:
    """The output that is explained; `sign` -1 where a number is explained that is lower than that of an empty picture."""

    output: int
    sign: int = 1


@dataclass(frozen=True)
class Method:
    """How a map is made: (classifier, x (N, C, H, W), score (N,), layer) -> (N, h, w); `how` says it in a few words."""

    title: str
    how: str
    source: str
    compute: Callable[[Classifier, torch.Tensor, Score, MapLayer | None], torch.Tensor]
    needs_layer: bool = False


def attribute(
    classifier: Classifier, pixels: np.ndarray, target: Target, method: str, layer: MapLayer | None, *, seed: int = 0
) -> np.ndarray:
    """Heat maps of pictures, uint8 (N, H, W, C), for one output -> float32 (N, H, W).

    A classifier that also looks at the mirrored picture is explained on both, and the maps are averaged: for scores that is what
    happened. Raises UnknownNameError for a method that is none, ConfigError for one that needs maps where no layer has any.
    """
    chosen = find_method(method)
    if chosen.needs_layer and layer is None:
        raise ConfigError(f"{chosen.title} draws the maps of a layer, and this network has none that can be drawn.")
    sides = (False, True) if classifier.mirror else (False,)
    with classifier.answering(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        maps = []
        for part in np.array_split(pixels, -(-len(pixels) // classifier.batch_size)):
            x = classifier.contract.tensor(torch.from_numpy(np.array(part)).to(classifier.device))
            found = [_one_side(classifier, x, target, chosen, layer, mirrored) for mirrored in sides]
            maps.append(torch.stack(found).mean(0).cpu())
    return torch.cat(maps).numpy()


def find_method(name: str) -> Method:
    """Raises UnknownNameError with the nearest names, and with the reason for those that are left out on purpose."""
    if name in METHODS:
        return METHODS[name]
    if name.lower().replace("_", "-") in _REFUSED:
        raise UnknownNameError(
            f"'{name}' is not offered: its maps hardly change when the weights of the network are replaced by random ones, so they "
            "show the picture's edges and explain nothing (Adebayo et al. 2018, Sanity Checks for Saliency Maps). "
            f"Take one of {', '.join(METHODS)}."
        )
    raise UnknownNameError(
        f"There is no method '{name}'; expected one of {', '.join(METHODS)}, or all. {nearest(name, METHODS)}".rstrip()
    )


def why_refused(values: np.ndarray) -> str | None:
    """Why a map (H, W) cannot be shown, None where it can."""
    if not np.isfinite(values).all():
        return "it holds values that are no finite numbers: the network's own values run over for this picture"
    if np.ptp(values) <= 1e-6 * max(np.abs(values).max(), 1e-30):
        return "it is the same everywhere: no place matters more than another to this score"
    if values.max() <= 0:
        return "nowhere does the picture speak for this answer, everything speaks against it; explain another class (--class)"
    return None


def randomized(classifier: Classifier, pixels: np.ndarray, *, seed: int = 0) -> Classifier:
    """The same network with weights that know nothing: the values of each tensor in random order.

    So they stay as large as they were. Batch normalization measures anew on `pixels`, uint8 (N, H, W, C), which keeps
    signals alive in deep networks. Source: Adebayo et al. 2018, arXiv 1810.03292, section 3.
    """
    module, generator = copy.deepcopy(classifier.module), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
        norms = [
            m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats
        ]
        module.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = 1.0
            norm.train()
        if norms:
            module(classifier.contract.tensor(torch.from_numpy(np.array(pixels)).to(classifier.device)))
        module.eval()
    return replace(classifier, module=module, forward=None)


def _one_side(
    classifier: Classifier, x: torch.Tensor, target: Target, method: Method, layer: MapLayer | None, mirrored: bool
) -> torch.Tensor:
    def score(x: torch.Tensor) -> torch.Tensor:
        logits = classifier.module(x.clone())  # a first layer that works in place would change captum's input
        return target.sign * logits[:, target.output]

    found = method.compute(classifier, x.flip(3) if mirrored else x, score, layer).detach().float()
    found = F.interpolate(found[:, None], size=x.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return found.flip(2) if mirrored else found


def _grad_cam(classifier: Classifier, x: torch.Tensor, score: Score, layer: MapLayer | None) -> torch.Tensor:
    from captum.attr import LayerGradCam

    assert layer is not None
    tap = (
        nn.Identity()
    )  # so that calls of a module that works twice, and other layouts than (N, C, H, W), are alike to captum

    def through_tap(output: torch.Tensor) -> torch.Tensor:
        found = as_maps(output, (x.shape[2], x.shape[3]), len(output))
        assert found is not None
        return found[1](tap(found[0]))

    with changed(classifier, layer.name, through_tap):
        return LayerGradCam(score, tap).attribute(x)[:, 0]


def _integrated_gradients(classifier: Classifier, x: torch.Tensor, score: Score, _: MapLayer | None) -> torch.Tensor:
    from captum.attr import IntegratedGradients

    found = IntegratedGradients(score).attribute(
        x, baselines=0, n_steps=_IG_STEPS, internal_batch_size=max(classifier.batch_size, len(x))
    )
    return found.sum(1)


def _smoothgrad(classifier: Classifier, x: torch.Tensor, score: Score, _: MapLayer | None) -> torch.Tensor:
    from captum.attr import NoiseTunnel, Saliency

    at_once = max(1, classifier.batch_size // len(x))
    noise = _NOISE * float(x.max() - x.min())
    found = NoiseTunnel(Saliency(score)).attribute(
        x, nt_samples=_NOISE_SAMPLES, nt_samples_batch_size=at_once, stdevs=noise
    )
    return found.sum(1)


def _occlusion(classifier: Classifier, x: torch.Tensor, score: Score, _: MapLayer | None) -> torch.Tensor:
    from captum.attr import Occlusion

    window = [max(1, round(side / _WINDOWS)) for side in x.shape[2:]]
    found = Occlusion(score).attribute(
        x, (x.shape[1], *window), strides=(x.shape[1], *(max(1, side // 2) for side in window)), baselines=0,
        perturbations_per_eval=max(1, classifier.batch_size // len(x)),
    )  # fmt: skip
    return found.sum(1)


def _shapley(classifier: Classifier, x: torch.Tensor, score: Score, _: MapLayer | None) -> torch.Tensor:
    from captum.attr import ShapleyValueSampling

    rows, columns = (torch.arange(side) * min(side, _PLAYERS) // side for side in x.shape[2:])
    players = (rows[:, None] * (int(columns.max()) + 1) + columns)[None, None].to(x.device)
    found = ShapleyValueSampling(score).attribute(
        x, baselines=0, feature_mask=players, n_samples=_ORDERS,
        perturbations_per_eval=max(1, classifier.batch_size // len(x)),
    )  # fmt: skip
    return found[:, 0]


METHODS: dict[str, Method] = {
    "grad-cam": Method(
        "Grad-CAM", "the maps of a layer, each weighted by its mean gradient", "Selvaraju et al. 2017, arXiv 1610.02391",
        _grad_cam, needs_layer=True,
    ),
    "integrated-gradients": Method(
        "Integrated Gradients", f"gradients summed on the way from a blank picture, {_IG_STEPS} steps",
        "Sundararajan et al. 2017, arXiv 1703.01365", _integrated_gradients,
    ),
    "smoothgrad": Method(
        "SmoothGrad", f"how strong the gradient is, mean over {_NOISE_SAMPLES} noisy copies", "Smilkov et al. 2017, arXiv 1706.03825",
        _smoothgrad,
    ),
    "occlusion": Method(
        "Occlusion", f"what the score loses when a window (a side of 1/{_WINDOWS}) is covered", "Zeiler and Fergus 2014, arXiv 1311.2901",
        _occlusion,
    ),
    "shapley": Method(
        "Shapley values", f"what each of {_PLAYERS}x{_PLAYERS} cells adds to the score, mean over {_ORDERS} random orders",
        "Castro et al. 2009, doi 10.1016/j.cor.2008.04.004", _shapley,
    ),
}  # fmt: skip

_REFUSED = {
    "guided-backprop",
    "guided-backpropagation",
    "guided-grad-cam",
    "guided-gradcam",
    "deconvolution",
    "deconvnet",
}
