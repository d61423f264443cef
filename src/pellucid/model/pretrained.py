"""Networks with weights that somebody else trained: for a training to start from, or to classify with as they are.

Weights are safetensors files, which hold numbers only. Those of ImageNet are looked for in a folder first, and fetched
by timm only when they were asked for by name.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.request import getproxies

import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.errors import ConfigError, PellucidError, RunError, WeightsError, nearest
from pellucid.files import atomic_write, cache_folder, storage_errors
from pellucid.model.classifier import Classifier, load
from pellucid.model.labels import imagenet_classes, read_labels
from pellucid.model.zoo import OPTIONS, Architecture, build, find_architecture, head_of, published_pixels

_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # second heads, of use in their own training only


@dataclass(frozen=True)
class Pretrained:
    """A weights file and what it says about itself: the pixel contract it was trained with, its origin and licence."""

    file: Path
    architecture: Architecture
    size: tuple[int, int] | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    origin: str

    def load_into(self, module: nn.Module, *, with_head: bool = False) -> None:
        """Copies the weights; a first layer of other channels is adapted, a head of other classes is left as it is.

        Raises WeightsError when anything else does not fit; `with_head`, also when the head does not.
        """
        state = _read_safetensors(self.file)[0]
        state = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
        own = module.state_dict()
        _adapt_channels(module, own, state)
        head, layer = head_of(module)
        if with_head:
            self._check_head(state.get(f"{head}.weight"), layer.out_features)
        for name in (f"{head}.weight", f"{head}.bias"):
            if name in state and name in own and state[name].shape != own[name].shape:
                del state[name]
        missing = [n for n in own if n not in state and not n.startswith(f"{head}.") and "num_batches" not in n]
        unknown = [n for n in state if n not in own and not n.startswith((f"{head}.", *_AUXILIARY))]
        wrong = [n for n in state if n in own and state[n].shape != own[n].shape]
        if missing or unknown or wrong:
            example = (missing or unknown or wrong)[0]
            raise WeightsError(
                f"'{self.file}' does not hold the weights of {self.architecture}: {len(missing)} tensors are missing, "
                f"{len(unknown)} are unknown, {len(wrong)} have another shape (for example '{example}'). "
                "Name the network that the file was made for (--model in training)."
            )
        module.load_state_dict({n: t for n, t in state.items() if n in own}, strict=False)

    def _check_head(self, weight: torch.Tensor | None, num_classes: int) -> None:
        if weight is None:
            raise WeightsError(
                f"'{self.file}' has no last layer for {self.architecture}, so it gives no answers by itself. "
                "Train one on your pictures: pellucid train DATA --weights FILE."
            )
        if len(weight) != num_classes:
            background = (
                " Is its first name a background class? Then take it out." if num_classes == len(weight) + 1 else ""
            )
            raise WeightsError(
                f"The weights '{self.file}' tell {len(weight):,} classes apart, but there are names for {num_classes:,}. "
                f"Give a file with {len(weight):,} names in the order of the outputs (--labels FILE).{background}"
            )


def find_pretrained(weights: str, model: str) -> Pretrained:
    """What `--weights FILE|imagenet` and a network's name mean together; 'auto' when the file names its network.

    Raises WeightsError for a file that is missing, no safetensors, or of another network.
    """
    if weights == "imagenet":
        return _imagenet(model)
    file = Path(weights).expanduser()
    if not file.is_file():
        raise WeightsError(f"There is no weights file '{weights}'. Expected a .safetensors file, imagenet or none.")
    metadata = _read_safetensors(file, header_only=True)[1]
    named = metadata.get("architecture")
    if named is None and model == "auto":
        raise WeightsError(f"'{file}' does not say which network it belongs to. Name it with --model.")
    options = {key: metadata[key] for key in OPTIONS["timm"] if key in metadata}
    architecture = find_architecture(named or model, options)
    if model != "auto" and find_architecture(model, options) != architecture:
        raise WeightsError(
            f"'{file}' holds the weights of {named}, but {model} is asked for. "
            f"Ask for {named} (--model {named} in training), or give the weights of {model}."
        )
    size, mean, std = published_pixels(architecture) or (None, None, None)
    if given := _numbers(metadata.get("input_size")):
        size = int(given[-2]), int(given[-1])
    return Pretrained(
        file=file,
        architecture=architecture,
        size=size,
        mean=_numbers(metadata.get("mean")) or mean,
        std=_numbers(metadata.get("std")) or std,
        origin=metadata.get("origin") or metadata.get("source") or file.name,
    )


def load_pretrained(name: str, weights: str, *, labels: str | Path | None = None) -> Classifier:
    """A network as it was trained by others, ready to classify: `load_pretrained("resnet50", "imagenet")`.

    `weights` is 'imagenet' or a .safetensors file, `labels` a file with the names of its classes, by default the 1,000
    of ImageNet. Of each picture it sees the largest centered part with the proportions of its input.
    Raises UnknownNameError, WeightsError (weights that cannot be had, or names that are not as many as the outputs),
    ConfigError for labels that cannot be read.
    """
    pretrained = find_pretrained(str(weights), name)
    classes = read_labels(labels) if labels is not None else imagenet_classes()
    height, width = pretrained.size or (224, 224)
    contract = PixelContract(height, width, fit="crop", mean=pretrained.mean or (), std=pretrained.std or ())
    module = build(pretrained.architecture, input_shape=(3, height, width), num_classes=len(classes))
    pretrained.load_into(module, with_head=True)
    return Classifier(module.eval(), classes, contract, pretrained.architecture, {"origin": pretrained.origin})


def open_classifier(
    run_or_name: str | Path, *, weights: str | None = None, labels: str | Path | None = None
) -> Classifier:
    """The classifier of a run folder or, with `weights`, a network by its name.

    Raises RunError when it is neither, ConfigError when weights and name or run do not go together, and what `load` and
    `load_pretrained` raise.
    """
    if Path(run_or_name).exists():
        if weights or labels:
            raise ConfigError(
                f"'{run_or_name}' is there on the disk, and a run has its own weights and classes. Leave --weights and "
                "--labels out, or give the name of a network instead of a run."
            )
        return load(run_or_name)
    name = str(run_or_name)
    try:
        architecture = find_architecture(name)
    except PellucidError as error:
        raise RunError(f"There is no run folder '{name}' and no network of that name. {error}") from error
    if weights is None:
        published = "--weights imagenet or " if architecture.family == "timm" else ""
        raise ConfigError(
            f"'{name}' is a network without weights, whose answers would be random. Add {published}--weights "
            f"FILE.safetensors, or train it on your pictures first: pellucid train DATA --model '{name}', then pellucid "
            "predict RUN."
        )
    return load_pretrained(name, weights, labels=labels)


def weights_folder() -> Path:
    """Where pretrained weights lie: $PELLUCID_WEIGHTS, else $PELLUCID_CACHE/weights or ~/.cache/pellucid/weights."""
    own = os.environ.get("PELLUCID_WEIGHTS")
    return Path(own).expanduser().absolute() if own else cache_folder() / "weights"


def weights_at_hand() -> tuple[Pretrained | None, list[str]]:
    """The smallest file of the weights folder that fits a network, and what there is to say about the others.

    A file that does not name its network is named like it: mobilenetv2_100.safetensors.
    """
    found, notes = None, []
    for file in sorted(weights_folder().glob("*.safetensors"), key=lambda file: (file.stat().st_size, file.name)):
        if found is not None:
            notes.append(f"'{file}' lies there, too; --weights takes it instead")
            continue
        try:
            named = "architecture" in _read_safetensors(file, header_only=True)[1]
            found = find_pretrained(str(file), "auto" if named else file.stem)
            shape = (3, *(found.size or (224, 224)))
            found.load_into(build(found.architecture, input_shape=shape, num_classes=2))  # is it all there?
        except PellucidError as error:
            found = None
            notes.append(f"weights that lie at hand are not used: {error}")
    return found, notes


def _imagenet(model: str) -> Pretrained:
    """ImageNet weights of a timm network: from our folder if they lie there, else fetched by timm because asked to."""
    import timm

    if model == "auto":
        raise WeightsError("--weights imagenet needs --model, for example --model resnet18.")
    architecture = find_architecture(model)
    if architecture.family != "timm":
        raise WeightsError(
            f"--weights imagenet works for the networks of timm; '{model}' is none. Give a .safetensors file instead."
        )
    name = architecture.name
    place = weights_folder() / f"{name}.safetensors"
    config = timm.get_pretrained_cfg(name)
    if not place.exists():
        _download(name, place)
    size, mean, std = published_pixels(architecture) or (None, None, None)
    return Pretrained(
        file=place,
        architecture=architecture,
        size=size,
        mean=mean,
        std=std,
        origin=f"timm {name}.{config.tag if config else ''}, licence {config.license if config else 'unknown'}",
    )


def _download(name: str, place: Path) -> None:
    import timm
    from safetensors.torch import save

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        with_weights = {full.partition(".")[0] for full in timm.list_models(pretrained=True)}
        raise WeightsError(
            f"timm has no weights for {name}; expected a network with published weights, or your own for {name} at "
            f"'{place}'. {nearest(name, with_weights)}".strip()
        )
    try:
        if not getproxies():
            socket.getaddrinfo("huggingface.co", 443)  # without a network the hub's client would try for a minute
        state = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # timm and its hub raise dozens of types; all mean "no weights"
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        if config.hf_hub_id:
            wanted = f"get 'model.safetensors' of {config.hf_hub_id} from the Hugging Face hub on another machine"
        else:  # a pickle on a web server, which timm reads and `save` writes anew
            wanted = f"run the same on another machine (it fetches {config.url}), take '{place.name}' from there"
        raise WeightsError(
            f"The ImageNet weights of {name} could not be fetched: {reason}. Without a network, {wanted} and put it at "
            f"'{place}'."
        ) from error
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(place, save({key: tensor.contiguous() for key, tensor in state.items()}))


def _adapt_channels(module: nn.Module, own: Mapping[str, torch.Tensor], state: dict[str, torch.Tensor]) -> None:
    from timm.models import adapt_input_conv

    first = next((n for n, m in module.named_modules() if isinstance(m, nn.Conv2d)), None)
    name = f"{first}.weight"
    fits = name in state and name in own and state[name].ndim == own[name].ndim
    if first and fits and state[name].shape[1] != own[name].shape[1]:
        state[name] = adapt_input_conv(own[name].shape[1], state[name])


def _read_safetensors(file: Path, *, header_only: bool = False) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as handle:
            metadata = handle.metadata() or {}
            return ({} if header_only else {key: handle.get_tensor(key) for key in handle.keys()}), metadata  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"'{file}' is no readable safetensors file ({error}). Pickled weights (.pth, .pt, .bin) are not opened, since "
            "opening one can run code; convert them where you trust them: "
            "safetensors.torch.save_file(torch.load('weights.pth', weights_only=True), 'weights.safetensors')"
        ) from error


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    return tuple(float(part) for part in text.strip("[]() ").replace(",", " ").split())
