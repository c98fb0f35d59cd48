"""`@cached`: a function whose results are kept in a tenant's cache."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from string import Formatter
from typing import Any, Final, ParamSpec, TypeVar, cast
from urllib.parse import quote

from cm_platform.errors import InvalidArgumentError

from .service import AsyncCache
from .sync import Cache
from .times import DEFAULT, Default

P = ParamSpec("P")
R = TypeVar("R")

# What has one form as text, so that equal arguments make equal keys and others do not.
_PLAIN: Final = (str, int, bool)
_UUID_DIGITS: Final = 32
_LIKE_ANOTHER: Final = re.compile(r"-?[0-9]+|True|False|[0-9a-f]{32}")


def cached(
    *,
    ttl: float | Default | None = DEFAULT,
    key: str | Callable[..., str],
    cache: Callable[..., Cache | AsyncCache] | None = None,
    namespace: str | None = None,
    stale: float = 0,
    stale_if_error: float = 0,
    negative_ttl: float | None = None,
    jitter: float = 0,
    tags: Iterable[str] = (),
    type: Any = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keep what a function returns, as `get_or_set` does; for plain and async functions.

        @cached(ttl=300, key="menu:{location}")
        def menu(cache: Cache, location: str) -> list[str]: ...

    key: a template over the function's arguments, or a function of them. In a template,
        arguments are text, whole numbers, or have a `hex` (UUIDs); what could be mistaken for
        the template's own punctuation is percent-encoded, so arguments that differ as text never
        meet. Between two of them it needs punctuation, such as ":", for that.
    cache: given the arguments, the tenant's cache. Left out, the function's argument that is
        one: whose value it is, is never guessed.
    namespace: of that cache. ttl, stale, stale_if_error, negative_ttl, jitter, tags, type: as
        in `get_or_set`.

    Raises `invalid_argument` where it decorates, for a template that names no argument of the
    function, or in which two arguments could run together; where it is called, for a call without
    a cache.
    """
    if isinstance(tags, str):
        raise InvalidArgumentError(f"tags are several: write ({tags!r},)")
    if not isinstance(key, str) and not callable(key):
        raise InvalidArgumentError(
            f"key must be a template (str) or a function, not {_type_name(key)}"
        )
    tags = tuple(tags)
    options = {
        "ttl": ttl,
        "stale": stale,
        "stale_if_error": stale_if_error,
        "negative_ttl": negative_ttl,
        "jitter": jitter,
        "tags": tags,
        "type": type,
    }

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        plain = _separators(key, signature) if isinstance(key, str) else ""
        is_async = inspect.iscoroutinefunction(function)

        def prepared(*args: Any, **kwargs: Any) -> tuple[Any, str]:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            found = _found(bound.arguments) if cache is None else cache(*args, **kwargs)
            if not isinstance(found, AsyncCache if is_async else Cache):
                wanted = "an AsyncCache" if is_async else "a Cache"
                raise InvalidArgumentError(
                    f"{function.__name__} needs {wanted}: as one of its arguments, or by "
                    "@cached(cache=...)"
                )
            text = (
                _filled(key, bound.arguments, plain)
                if isinstance(key, str)
                else key(*args, **kwargs)
            )
            return (found if namespace is None else found.namespace(namespace)), text

        if is_async:

            @functools.wraps(function)
            async def asynchronous(*args: P.args, **kwargs: P.kwargs) -> Any:
                found, text = prepared(*args, **kwargs)
                return await found.get_or_set(text, lambda: function(*args, **kwargs), **options)

            return cast("Callable[P, R]", asynchronous)

        @functools.wraps(function)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            found, text = prepared(*args, **kwargs)
            return cast("R", found.get_or_set(text, lambda: function(*args, **kwargs), **options))

        return blocking

    return decorate


def _type_name(value: object) -> str:
    # `type` is an argument's name in `cached`.
    return type(value).__name__


def _found(arguments: Mapping[str, Any]) -> Any:
    for argument in arguments.values():
        if isinstance(argument, Cache | AsyncCache):
            return argument
    return None


# What `quote` leaves as it is, beside letters and digits.
_UNQUOTED: Final = frozenset("-._~")


def _separators(template: str, signature: inspect.Signature) -> str:
    """The punctuation between arguments that `quote` does not see to.

    Between any two of them stands a character that no argument has once it is encoded. So each
    ends where that character first appears, and a key can come of one set of arguments only.
    """
    try:
        fields = list(Formatter().parse(template))
    except ValueError:
        raise InvalidArgumentError(
            f"the key {template!r} is no template: write it like 'menu:{{location}}'"
        ) from None
    for _, name, form, conversion in fields:
        if name is not None and (name not in signature.parameters or form or conversion):
            raise InvalidArgumentError(
                f"the key {template!r} names {{{name}}}, which must be, as it is, an argument of "
                f"the function; those are {', '.join(signature.parameters)}"
            )
    # A brace that was doubled is a part of its own, without a name.
    between = [""]
    for literal, name, _, _ in fields:
        between[-1] += literal
        if name is not None:
            between.append("")
    between = between[1:-1]
    for literal in between:
        # A percent sign stands in what is encoded, and "=" before what is like another type.
        if all(letter in "%=" or (letter.isascii() and letter.isalnum()) for letter in literal):
            raise InvalidArgumentError(
                f"the key {template!r} lets two arguments run together: put ':' between them"
            )
    return "".join(sorted(_UNQUOTED.intersection("".join(between))))


def _filled(template: str, arguments: Mapping[str, Any], plain: str) -> str:
    return "".join(
        literal + ("" if name is None else _text(name, arguments[name], plain))
        for literal, name, _, _ in Formatter().parse(template)
    )


def _text(name: str, value: Any, plain: str) -> str:
    if isinstance(value, _PLAIN):
        told = str(value)
        try:
            text = quote(told, safe="")
        except UnicodeEncodeError:
            raise InvalidArgumentError(
                f"the argument {name!r} must be valid Unicode: no lone surrogates"
            ) from None
        for letter in plain:
            text = text.replace(letter, f"%{ord(letter):02X}")
        # The text "5" is another argument than the number 5; `quote` leaves no "=" of its own.
        if isinstance(value, str):
            return f"={text}" if _LIKE_ANOTHER.fullmatch(told) else text
        # A UUID's 32 digits may all be decimal ones.
        return f"=={text}" if len(told) == _UUID_DIGITS else text
    found = getattr(value, "hex", None)
    if isinstance(found, str):
        return found
    raise InvalidArgumentError(
        f"the argument {name!r} cannot stand in a key: text, whole numbers and UUIDs can; give "
        "@cached a function as its key"
    )


__all__ = ["cached"]
