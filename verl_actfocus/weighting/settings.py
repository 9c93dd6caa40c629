"""From a section of a configuration to a frozen dataclass: what YAML gets wrong is said in one sentence."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from numbers import Real
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T", bound="DataclassInstance")
_IN_WORDS = {
    float: "a finite number",
    int: "a whole number",
    bool: "true or false",
    str: "a text",
    dict: "a section of names and values",
    NoneType: "null",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A scheme whose settings are the fields of the subclass, a frozen keyword-only dataclass.

    Raises:
        ValueError: If a setting has the wrong type or is out of range; the message names it.
    """

    section: ClassVar[str]
    """Where they stand in a configuration, for messages."""
    remarks: ClassVar[Mapping[str, str]] = {}
    """Setting → what a message about a value of another type says beside the type."""

    def __post_init__(self) -> None:
        """Check the types of the settings; a subclass calls this and then `require` for their ranges."""
        check_types(type(self), self.section, {item.name: getattr(self, item.name) for item in fields(self)})

    def require(self, setting: str, holds: bool, requirement: str) -> None:
        """Raise ValueError, naming the setting and its value, unless a requirement holds."""
        if not holds:
            raise ValueError(f"{self.section}.{setting}={getattr(self, setting)!r} {requirement}")


def register(registry: dict[str, type[Any]], cls: type[Any], kind: str) -> None:
    """Enter a scheme under its name.

    Args:
        registry: Name → class.
        cls: A frozen dataclass below `Settings`.
        kind: What it is, for messages.

    Raises:
        ValueError: If the class has no name that a configuration can write, is no dataclass of its own though it
            has fields, or leaves a method out; or another class has the name.
    """
    place = f"{cls.__module__}.{cls.__qualname__}"
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{place}.name={name!r} must be a name of letters, digits and underscores, as {kind}s have")
    annotations = vars(cls).get("__annotations__", {})
    own = [key for key, hint in annotations.items() if "ClassVar" not in str(hint)]
    if own and "__dataclass_fields__" not in vars(cls):
        raise ValueError(
            f"{place} has the settings {own}, but is no dataclass when it is registered: write "
            f"@dataclass(frozen=True, kw_only=True) above the class, and @register_{kind} above that"
        )
    if left_out := sorted(getattr(cls, "__abstractmethods__", ())):
        raise ValueError(f"{place} is a {kind} without {', '.join(left_out)}: define it, by that name")
    other = registry.setdefault(name, cls)
    if other is not cls:
        raise ValueError(
            f"{place} and {other.__module__}.{other.__qualname__} are both called {name!r}; rename one of the {kind}s"
        )


def settings_from(cls: type[_T], path: str, section: Any) -> _T:
    """Read a section of a configuration into a dataclass; lists become tuples.

    Args:
        cls: A dataclass whose fields are the settings; their types are checked here, ranges by the class itself, to
            whose messages the place is added.
        path: Where the section stands in the configuration, for messages.
        section: What stands there, interpolations resolved; null for nothing but defaults.

    Raises:
        ValueError: If the section is no mapping, has an unknown setting, lacks one without default or holds a
            value of another type or out of range. The message names the setting, the value and the remedy.
    """
    if not isinstance(section, Mapping | None):
        raise ValueError(f"{path}={section!r} must be a section with the settings {_names(cls)}")
    values = {str(name): tuple(item) if isinstance(item, list) else item for name, item in (section or {}).items()}
    unknown = sorted(set(values) - set(_names(cls)))
    if unknown:
        raise ValueError(f"{path} has no setting {unknown}; {cls.__name__} has {_names(cls) or 'none'}")
    for field in fields(cls):
        if field.name not in values and field.default is field.default_factory is MISSING:
            raise ValueError(f"{path}.{field.name} is missing; set it")
    check_types(cls, path, values)
    try:
        return cls(**values)
    except ValueError as error:
        if path in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error


def check_types(cls: type, path: str, values: Mapping[str, Any]) -> None:
    """Raise ValueError unless each of these values of a dataclass's fields has the field's type."""
    hints = get_type_hints(cls)
    for name, value in values.items():
        if not _has_type(value, hints[name]):
            remark = getattr(cls, "remarks", {}).get(name)
            raise ValueError(
                f"{path}.{name}={value!r} must be {_in_words(hints[name])}{f'; {remark}' if remark else ''}"
            )


def _names(cls: type) -> list[str]:
    return sorted(field.name for field in fields(cls))


def _has_type(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_has_type(value, argument) for argument in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return (
            isinstance(value, tuple) and len(value) == len(arguments) and all(map(_has_type, value, arguments))
        )  # each part its own type
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, Real) and math.isfinite(value)
    kind = origin or hint
    # What is no class to be an instance of (Any, which is one in Python 3.11, Literal, …) is left to the dataclass.
    return isinstance(value, kind) if isinstance(kind, type) and kind is not Any else True


def _in_words(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_in_words, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list of {len(get_args(hint))} values"
    return _IN_WORDS.get(get_origin(hint) or hint, str(hint))
