"""From a name to a network: fastnet, a network as text, or any classifier of timm or torchvision.

An `Architecture` is data (family, name, options) and is all that a saved classifier says about its code: building one
looks names up in these four families and nowhere else, nothing is imported or executed by name.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import torch
from torch import nn

from pellucid.errors import ShapeError, UnknownNameError, WeightsError, nearest
from pellucid.files import atomic_write, cache_folder, storage_errors
from pellucid.model.courses import COURSE
from pellucid.model.fastnet import FastNet, parse_widths
from pellucid.model.spec import build_spec, parse_spec

_OPTIONS = {"fastnet": (), "spec": (), "timm": ("pad_type",), "torchvision": ()}


@dataclass(frozen=True)
class Architecture:
    """A network as data. `family` is fastnet, spec, timm or torchvision; `name` is the text or name within it."""

    family: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.family not in _OPTIONS:
            raise UnknownNameError(f"Unknown family of networks '{self.family}'; known: {', '.join(_OPTIONS)}.")
        if extra := set(self.options) - set(_OPTIONS[self.family]):
            raise UnknownNameError(f"{self.family} network '{self.name}' takes no option {', '.join(sorted(extra))}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `Architecture(**data)` gives it back."""
        return asdict(self)

    def __str__(self) -> str:
        return self.name if self.family in ("fastnet", "spec") else f"{self.name} ({self.family})"


def find_architecture(name: str, options: Mapping[str, str] | None = None) -> Architecture:
    """The architecture that `name` means; timm is asked before torchvision.

    Raises UnknownNameError with the nearest names, SpecError for a network text that cannot be parsed.
    """
    name = name.strip()
    name = COURSE[name].network if name in COURSE else name
    if name.startswith("fastnet"):
        parse_widths(name)
        return Architecture("fastnet", name)
    if any(c in name for c in " ,[") or (name.startswith("conv") and name[4:5].isdigit()):
        return Architecture("spec", str(parse_spec(name)))
    timm_names, torchvision_names = _timm_names(), _torchvision_names()
    if name in timm_names:
        return Architecture("timm", name, dict(options or {}))
    if name in torchvision_names:
        return Architecture("torchvision", name)
    known = ["fastnet", *COURSE, *timm_names, *torchvision_names]
    raise UnknownNameError(
        f"Unknown network '{name}'. {nearest(name, known)} Expected fastnet, a name of timm or torchvision, "
        "or a network as text like 'conv16 relu pool dense64 relu'."
    )


def build(architecture: Architecture, *, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """The network with first weights drawn from torch's generator: (N, C, H, W) -> (N, num_classes) logits.

    Raises ShapeError when it cannot work on `input_shape` (channels, height, width).
    """
    if architecture.family == "fastnet":
        return FastNet(input_shape=input_shape, num_classes=num_classes, widths=parse_widths(architecture.name))
    if architecture.family == "spec":
        return build_spec(parse_spec(architecture.name), input_shape=input_shape, num_classes=num_classes)
    if architecture.family == "timm":
        module = _build_timm(architecture, input_shape, num_classes)
    else:
        module = _build_torchvision(architecture.name, input_shape[0], num_classes)
    _try_shape(module, architecture, input_shape)
    return module


def default_input(architecture: Architecture) -> tuple[int, int, int]:
    """(channels, height, width) that the network is usually given: 32x32 for fastnet and texts, else its own."""
    size = _input_size(architecture, None)
    return (3, *size) if size else (3, 32, 32)


def head_of(module: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the last fully connected layer, the one that gives the logits. Raises ShapeError if none does."""
    linear = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ShapeError(
            "The network has no fully connected last layer, so it cannot be fitted by itself; use --no-freeze."
        )
    return linear[-1]


@dataclass(frozen=True)
class Pretrained:
    """A weights file and what it says about itself: the pixel contract it was trained with, its origin and licence."""

    file: Path
    architecture: Architecture
    size: tuple[int, int] | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    origin: str

    def load_into(self, module: nn.Module) -> None:
        """Copies the weights; a first layer of other channels is adapted, a head of other classes is left as it is.

        Raises WeightsError when anything else does not fit.
        """
        state = _read_safetensors(self.file)[0]
        state = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
        own = module.state_dict()
        _adapt_channels(module, own, state)
        head, _ = head_of(module)
        for name in (f"{head}.weight", f"{head}.bias"):
            if name in state and name in own and state[name].shape != own[name].shape:
                del state[name]
        missing = [n for n in own if n not in state and not n.startswith(f"{head}.") and "num_batches" not in n]
        unknown = [n for n in state if n not in own and not n.startswith(f"{head}.")]
        wrong = [n for n in state if n in own and state[n].shape != own[n].shape]
        if missing or unknown or wrong:
            example = (missing or unknown or wrong)[0]
            raise WeightsError(
                f"'{self.file}' does not hold the weights of {self.architecture}: {len(missing)} tensors are missing, "
                f"{len(unknown)} are unknown, {len(wrong)} have another shape (for example '{example}'). "
                "Name the architecture that the file was made for with --model."
            )
        module.load_state_dict({n: t for n, t in state.items() if n in own}, strict=False)


def find_pretrained(weights: str, model: str) -> Pretrained:
    """What `--weights FILE|imagenet` and `--model` mean together; `model` may be 'auto' when the file names its network.

    Raises WeightsError for a file that is missing, no safetensors, or of another architecture.
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
    if named is not None and model not in ("auto", named):
        raise WeightsError(
            f"'{file}' holds the weights of {named}, but --model asks for {model}. "
            f"Use --model {named}, or leave --model out, or give the weights of {model}."
        )
    options = {key: metadata[key] for key in _OPTIONS["timm"] if key in metadata}
    architecture = find_architecture(str(named or model), options)
    return Pretrained(
        file=file,
        architecture=architecture,
        size=_input_size(architecture, metadata.get("input_size")),
        mean=_numbers(metadata.get("mean")),
        std=_numbers(metadata.get("std")),
        origin=metadata.get("origin") or metadata.get("source") or file.name,
    )


def weights_folder() -> Path:
    """Where pretrained weights lie: $PELLUCID_CACHE/weights or ~/.cache/pellucid/weights."""
    return cache_folder() / "weights"


def _imagenet(model: str) -> Pretrained:
    """ImageNet weights of a timm network: from our folder if they lie there, else fetched by timm because asked to."""
    import timm

    if model == "auto":
        raise WeightsError("--weights imagenet needs --model, for example --model resnet18.")
    architecture = find_architecture(model)
    place = weights_folder() / f"{model}.safetensors"
    if architecture.family != "timm":
        raise WeightsError(
            f"--weights imagenet works for the networks of timm; {architecture} is none. Give a .safetensors file instead."
        )
    config = timm.get_pretrained_cfg(model)
    if not place.exists():
        _download(model, place)
    return Pretrained(
        file=place,
        architecture=architecture,
        size=_input_size(architecture, None),
        mean=tuple(config.mean) if config else None,
        std=tuple(config.std) if config else None,
        origin=f"timm {model}.{config.tag if config else ''}, licence {config.license if config else 'unknown'}",
    )


def _download(model: str, place: Path) -> None:
    import timm
    from safetensors.torch import save

    try:
        if not getproxies():
            socket.getaddrinfo("huggingface.co", 443)  # without a network the hub's client would try for a minute
        state = timm.create_model(model, pretrained=True).state_dict()
    except Exception as error:  # timm and its hub raise dozens of types; all mean "no weights"
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"The ImageNet weights of {model} could not be fetched: {reason}. Without a network, get the file "
            f"'model.safetensors' of timm/{model} from the Hugging Face hub on another machine and put it at '{place}'."
        ) from error
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(place, save({name: tensor.contiguous() for name, tensor in state.items()}))


def library_names() -> dict[str, list[str]]:
    """The names of every classifier of timm and of torchvision."""
    return {"timm": _timm_names(), "torchvision": _torchvision_names()}


def _timm_names() -> list[str]:
    import timm

    return timm.list_models()


def _torchvision_names() -> list[str]:
    from torchvision import models

    return models.list_models(module=models)


def _build_timm(architecture: Architecture, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    import timm

    channels, height, width = input_shape
    arguments: dict[str, Any] = dict(architecture.options)
    config = timm.get_pretrained_cfg(architecture.name)
    if config is not None and config.fixed_input_size:
        arguments["img_size"] = (height, width)
    try:
        return timm.create_model(architecture.name, num_classes=num_classes, in_chans=channels, **arguments)
    except (AssertionError, ValueError, RuntimeError, TypeError) as error:
        raise ShapeError(
            f"{architecture} cannot be built for {channels} channels of {height}x{width}: {error}. "
            "Choose the size it was made for (--size 224) or another network."
        ) from error


def _build_torchvision(name: str, channels: int, num_classes: int) -> nn.Module:
    from torchvision import models

    arguments: dict[str, Any] = {"num_classes": num_classes, "weights": None}
    if name in ("inception_v3", "googlenet"):
        arguments |= {"aux_logits": False, "init_weights": True}
    module = models.get_model(name, **arguments)
    if channels != 3:
        path, first = next((n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d))
        parent, _, child = path.rpartition(".")
        shape: dict[str, Any] = {
            key: getattr(first, key) for key in ("out_channels", "kernel_size", "stride", "padding", "dilation")
        }
        adapted = nn.Conv2d(channels, bias=first.bias is not None, **shape)
        setattr(module.get_submodule(parent), child, adapted)
    return module


def _try_shape(module: nn.Module, architecture: Architecture, input_shape: tuple[int, int, int]) -> None:
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            module(torch.zeros(1, *input_shape, device=next(module.parameters()).device))
    except (RuntimeError, AssertionError, ValueError) as error:
        channels, height, width = input_shape
        raise ShapeError(
            f"{architecture} cannot work on pictures of {height}x{width} with {channels} channels: "
            f"{str(error).splitlines()[0]}. Use a larger input, for example --size 224, or another network."
        ) from error
    finally:
        module.train(was_training)


def _adapt_channels(module: nn.Module, own: Mapping[str, torch.Tensor], state: dict[str, torch.Tensor]) -> None:
    from timm.models import adapt_input_conv

    first = next((n for n, m in module.named_modules() if isinstance(m, nn.Conv2d)), None)
    name = f"{first}.weight"
    if first and name in state and name in own and state[name].shape[1] != own[name].shape[1]:
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


def _input_size(architecture: Architecture, text: str | None) -> tuple[int, int] | None:
    numbers = _numbers(text)
    if numbers:
        return int(numbers[-2]), int(numbers[-1])
    if architecture.family == "timm":
        import timm

        config = timm.get_pretrained_cfg(architecture.name)
        return (config.input_size[1], config.input_size[2]) if config else None
    return (224, 224) if architecture.family == "torchvision" else None
