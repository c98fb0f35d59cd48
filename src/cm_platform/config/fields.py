"""What the annotations of a settings model say: its keys, its paths and its secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from .tree import Path, Table, is_list, is_table, leaves

MASK: Final = "********"

_SECRET_NAME: Final = re.compile(r"(?i)secret|password|passwd|token|private_?key|credential")


def keys_of(model: type[BaseModel] | None) -> dict[str, FieldInfo]:
    """The keys that a table for the model may have."""
    keys: dict[str, FieldInfo] = {}
    for name, field in (model.model_fields if model is not None else {}).items():
        alias = field.validation_alias
        if alias is None or (model is not None and _by_name(model)):
            keys[name] = field
        if isinstance(alias, str):
            keys[alias] = field
        elif isinstance(alias, AliasChoices):
            keys.update((choice, field) for choice in alias.choices if isinstance(choice, str))
    return keys


def _by_name(model: type[BaseModel]) -> bool:
    config = model.model_config
    return bool(config.get("populate_by_name") or config.get("validate_by_name"))


def model_at(model: type[BaseModel], loc: Path) -> type[BaseModel] | None:
    """The model of the table at a place below a model, if there is one."""
    found: type[BaseModel] | None = model
    for part in loc:
        if found is None:
            return None
        field = keys_of(found).get(str(part))
        # An index, the key of a mapping or the arm of a union: the model stays.
        if field is not None:
            found = next(iter(_models(field.annotation)), None)
    return found


def hidden_values(model: type[BaseModel], table: Mapping[str, Any]) -> set[str]:
    """The strings of a table that may be secret: all but those of plainly public fields."""
    keys = keys_of(model)
    hidden: set[str] = set()
    for key, value in table.items():
        field = keys.get(key)
        nested = next(iter(_models(field.annotation)), None) if field is not None else None
        if nested is not None and is_table(value):
            hidden |= hidden_values(nested, value)
        elif field is None or is_secret_name(key) or _is_secret(field.annotation):
            hidden |= _strings(value)
    return hidden


def is_secret_name(name: str) -> bool:
    """Whether a setting is called as secrets are."""
    return _SECRET_NAME.search(name) is not None


def absolute_paths(model: type[BaseModel], table: Mapping[str, Any], directory: FilePath) -> Table:
    """The table with its relative paths made absolute, and `~` replaced by the home directory.

    directory: of the configuration file.
    """
    keys = keys_of(model)
    return {
        key: _absolute(keys[key].annotation, value, directory) if key in keys else value
        for key, value in table.items()
    }


def _absolute(annotation: Any, value: Any, directory: FilePath) -> Any:
    if is_table(value):
        models = list(_models(annotation))
        if models:
            return absolute_paths(models[0], value, directory)
        if _mentions(annotation, FilePath):
            return {key: _absolute(annotation, item, directory) for key, item in value.items()}
        return value
    if is_list(value):
        return [_absolute(annotation, item, directory) for item in value]
    if isinstance(value, str | FilePath) and value and _mentions(annotation, FilePath):
        return directory / FilePath(value).expanduser()
    return value


def path_keys(model: type[BaseModel]) -> list[str]:
    """The keys of fields that are one path."""
    return [key for key, field in keys_of(model).items() if _mentions(field.annotation, FilePath)]


def _strings(value: Any) -> set[str]:
    found: set[str] = set()
    for _, leaf in leaves(value):
        items = leaf if is_list(leaf) else [leaf]
        found.update(item for item in items if isinstance(item, str))
    return found


def _types(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    kind = get_origin(annotation)
    if kind is Annotated:
        yield from _types(get_args(annotation)[0])
    elif kind in (Union, UnionType) or kind is not None:
        for argument in get_args(annotation):
            yield from _types(argument)
        yield kind
    else:
        yield annotation


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    for part in _types(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part


def _mentions(annotation: Any, *wanted: type[Any]) -> bool:
    return any(isinstance(part, type) and issubclass(part, wanted) for part in _types(annotation))


def _is_secret(annotation: Any) -> bool:
    return _mentions(annotation, SecretStr, SecretBytes, Secret)


__all__ = [
    "MASK",
    "absolute_paths",
    "hidden_values",
    "is_secret_name",
    "keys_of",
    "model_at",
    "path_keys",
]
