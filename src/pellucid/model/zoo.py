"""From a name to a network: fastnet, a network as text, or any classifier of timm or torchvision.

An `Architecture` is data (family, name, options) and is all that a saved classifier says about its code: building one
looks names up in these four families and nowhere else, nothing is imported or executed by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from pellucid.errors import ShapeError, UnknownNameError, nearest
from pellucid.model.courses import COURSE
from pellucid.model.fastnet import FastNet, parse_widths
from pellucid.model.spec import build_spec, parse_spec

OPTIONS = {"fastnet": (), "spec": (), "timm": ("pad_type",), "torchvision": ()}


@dataclass(frozen=True)
class Architecture:
    """A network as data. `family` is fastnet, spec, timm or torchvision; `name` is the text or name within it."""

    family: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.family not in OPTIONS:
            raise UnknownNameError(f"Unknown family of networks '{self.family}'; known: {', '.join(OPTIONS)}.")
        if extra := set(self.options) - set(OPTIONS[self.family]):
            raise UnknownNameError(f"{self.family} network '{self.name}' takes no option {', '.join(sorted(extra))}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `Architecture(**data)` gives it back."""
        return asdict(self)

    def __str__(self) -> str:
        return self.name if self.family in ("fastnet", "spec") else f"{self.name} ({self.family})"


def find_architecture(name: str, options: Mapping[str, str] | None = None) -> Architecture:
    """The architecture that `name` means; timm is asked before torchvision, `torchvision/vgg16` asks it alone.

    Raises UnknownNameError with the nearest names, SpecError for a network text that cannot be parsed.
    """
    name = name.strip()
    name = COURSE[name].network if name in COURSE else name
    if name.startswith("fastnet"):
        parse_widths(name)
        return Architecture("fastnet", name)
    if any(c in name for c in " ,[") or (name.startswith("conv") and name[4:5].isdigit()):
        return Architecture("spec", str(parse_spec(name)))
    libraries = library_names()
    asked, slash, rest = name.partition("/")
    if slash and asked in libraries:
        libraries, name = {asked: libraries[asked]}, rest
    for family, names in libraries.items():
        if name in names:
            return Architecture(family, name, dict(options or {}) if family == "timm" else {})
    known = [*([] if slash else ["fastnet", *COURSE]), *(known for names in libraries.values() for known in names)]
    raise UnknownNameError(
        f"Unknown network '{name}'; expected fastnet, a name of timm or torchvision, or a network as text like "
        f"'conv16 relu pool dense64 relu'. {nearest(name, known)}".strip()
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


def outline(architecture: Architecture, *, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """The network of `build` without its numbers, on torch's meta device: it takes no memory, and errors come at once."""
    try:
        with torch.device("meta"):
            return build(architecture, input_shape=input_shape, num_classes=num_classes)
    except NotImplementedError:  # some networks (torchvision's regnets) work out their widths in tensors
        return build(architecture, input_shape=input_shape, num_classes=num_classes).to("meta")


def default_input(architecture: Architecture) -> tuple[int, int, int]:
    """(channels, height, width) that the network is usually given: its own, or 32x32 for fastnet and for texts that can."""
    if architecture.family == "spec":
        try:
            parse_spec(architecture.name).shapes((3, 32, 32), num_classes=2)
        except ShapeError:
            return 3, 224, 224
    published = published_pixels(architecture)
    return (3, *published[0]) if published else (3, 32, 32)


def published_pixels(architecture: Architecture) -> tuple[tuple[int, int], tuple[float, ...], tuple[float, ...]] | None:
    """(height, width), mean and std of the pictures that the library's weights were trained with; None for others."""
    if architecture.family == "timm":
        import timm

        config = timm.get_pretrained_cfg(architecture.name)
        return (config.input_size[1:], tuple(config.mean), tuple(config.std)) if config else None
    if architecture.family == "torchvision":
        from torchvision import models

        transform = models.get_model_weights(architecture.name).DEFAULT.transforms()
        return (transform.crop_size[0],) * 2, tuple(transform.mean), tuple(transform.std)
    return None


def takes_any_size(architecture: Architecture) -> bool:
    """Whether weights that were trained with one input size are known to serve another: timm says so of its networks."""
    if architecture.family != "timm":
        return False
    import timm

    config = timm.get_pretrained_cfg(architecture.name)
    return config is not None and not config.fixed_input_size


def head_of(module: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the last fully connected layer, the one that gives the logits. Raises ShapeError if none does."""
    linear = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ShapeError(
            "The network has no fully connected last layer, so it cannot be fitted by itself; use --no-freeze."
        )
    return linear[-1]


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
