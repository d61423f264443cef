"""Flags that are made from the fields of the settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal, get_type_hints

import typer

from pellucid.config import CautionConfig, DataConfig, ModelConfig, TrainConfig


def with_settings(*configs: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command one flag for each field of `configs`; the command receives them as the dict `settings`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        generated = [_flag(config, field.name) for config in configs for field in fields(config)]

        def with_flags(**arguments: Any) -> None:
            settings = {parameter.name: arguments.pop(parameter.name) for parameter in generated}
            command(**arguments, settings=settings)

        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, *generated]]
        with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_flags.__annotations__ = {p.name: p.annotation for p in parameters}
        with_flags.__name__, with_flags.__doc__ = command.__name__, command.__doc__
        return with_flags

    return decorate


def _flag(config: type, name: str) -> inspect.Parameter:
    field = next(f for f in fields(config) if f.name == name)
    assert field.default is not MISSING
    choices = field.metadata["choices"]
    group = {DataConfig: "Data", ModelConfig: "Network", TrainConfig: "Training", CautionConfig: "Caution"}.get(config)
    option = typer.Option(help=field.metadata["help"], rich_help_panel=group)
    hint = get_type_hints(config)[name]
    if choices:
        hint = Literal[choices] if isinstance(field.default, str) else Literal[choices] | None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=Annotated[hint, option]
    )
