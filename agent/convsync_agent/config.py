"""Settings from everywhere, checked: defaults < file < `CONVSYNC_*` < `--set`.

The only module that knows pydantic. It is imported, as tomllib is, when there is something to check
and not before: together they cost more than all of `status`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from convsync_agent.dirs import config_path
from convsync_agent.errors import DENIED, GONE, ConvsyncError, StorageProblem, UsageProblem, kind_of, reason_of
from convsync_agent.settings import KEYS, NOT_SETTINGS, SIZE, TARGET_ID, Key, Settings, bytes_of

if TYPE_CHECKING:
    from pydantic import BaseModel

Origin = Literal["default", "file", "env", "flag"]
PREFIX = "CONVSYNC_"
HINT = "convsync config schema"
_VALUE = re.compile(r" = .*(?= is not allowed; |; did you mean |; allowed: | is set by )", re.DOTALL)
_NEXT = "\n  "
SHOWN = 60  # characters of a wrong value that a message repeats

_NO_SUCH_FILE = GONE | {errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO}


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each of them came from. `path` is the file that was, or would be, read."""

    settings: Settings
    origins: Mapping[str, Origin]
    path: str
    warnings: tuple[str, ...] = ()


class _Layer(NamedTuple):
    """What one source says, nested as the file is. `place` says where a person finds a key of it."""

    origin: Origin
    values: Mapping[str, Any]
    place: Callable[[str], str]


def load(explicit_path: str | None, env: Mapping[str, str], sets: Sequence[str] = ()) -> Loaded:
    """The settings in force. Every mistake of every source is in the one `UsageProblem` that this raises."""
    path = config_path(explicit_path, env)
    required = explicit_path is not None or bool(env.get("CONVSYNC_CONFIG"))
    mistakes: list[str] = []
    content, warnings = _read(path, required=required)
    fields: dict[str, Any] = {}
    origins: dict[str, Origin] = dict.fromkeys(KEYS, "default")
    for read in (partial(_from_file, path, content), partial(_from_env, env), partial(_from_sets, sets)):
        layer = read(mistakes)
        for key, value in _checked(layer, mistakes).items():
            fields[KEYS[key].field] = value
            origins[key] = layer.origin
    if mistakes:
        raise _problem(mistakes)
    return Loaded(Settings(**fields), origins, path, warnings)


def mistakes_of(problem: ConvsyncError) -> list[str]:
    """The mistakes that `load` has put into one error, one by one."""
    first, *more = problem.message.split(_NEXT)
    return more or [first]


def without_value(mistake: str) -> str:
    """What is wrong, for a log: place, key and what is allowed."""
    return _VALUE.sub("", mistake)


def as_toml_rows(loaded: Loaded) -> list[tuple[str, object, Origin]]:
    """(key, plain value, origin) of every setting, sorted by key. None means: not set."""
    return [(key, _plain(getattr(loaded.settings, KEYS[key].field)), loaded.origins[key]) for key in sorted(KEYS)]


def json_schema() -> dict[str, Any]:
    """The JSON schema of the config file, for editors and for people."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_model().model_json_schema()}


# --- the sources


def _read(path: str, *, required: bool) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of the config file and what is odd about it; no bytes where no file is and none has to be."""
    try:
        with open(path, "rb") as file:
            seen = os.fstat(file.fileno())
            content = file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        message = f"cannot read the config file: {reason}"
        if isinstance(error, OSError) and error.errno not in _NO_SUCH_FILE:
            hint = "check owner and permissions of that file" if error.errno in DENIED else None
            raise StorageProblem(message, where=path, hint=hint, code=kind_of(error)) from error
        if isinstance(error, OSError) and error.errno in GONE and not required:
            return b"", ()
        raise UsageProblem(message, where=path, hint="convsync config path", code="config") from error
    if stat.S_ISREG(seen.st_mode) and (seen.st_mode & stat.S_IWOTH or seen.st_uid not in (os.geteuid(), 0)):
        return content, (f"{path} can be written by other users",)
    return content, ()


def _from_file(path: str, content: bytes, mistakes: list[str]) -> _Layer:
    values: Mapping[str, Any] = {}
    if content.strip():
        import tomllib  # noqa: PLC0415

        try:
            values = tomllib.loads(content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            mistakes.append(f"{path}{_line_of(error, content)}: not valid TOML: {_why(error)}")
    return _Layer("file", values, lambda _: path)


def _line_of(error: Exception, content: bytes) -> str:
    """Where bad TOML is, as ", line 3"; the parser says it in its message only."""
    told = str(error).rpartition(" (at ")[2]
    if told.startswith("line "):
        return ", " + told.partition(",")[0]
    end = len(content.rstrip()) if told.startswith("end of document") else getattr(error, "start", None)
    return "" if end is None else f", line {1 + content[:end].count(10)}"


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(" (at ")[0]


def _from_env(env: Mapping[str, str], mistakes: list[str]) -> _Layer:
    values: dict[str, Any] = {}
    names: dict[str, str] = {}
    for name in sorted(env):
        if not name.upper().startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        key = name[len(PREFIX) :].lower().replace("__", ".")
        if key not in KEYS:
            mistakes.append(_unknown(f"environment {name}", key, env[name], shown_as=_variable))
        elif key in names and env[name] != env[names[key]]:
            mistakes.append(_clean(f"environment {name}: {key} = {_shown(env[name])} is set by {names[key]} too"))
        else:
            names[key] = name
            _put(values, key, KEYS[key].from_text(env[name]))
    return _Layer("env", values, lambda key: f"environment {names.get(key, key)}")


def _from_sets(sets: Sequence[str], mistakes: list[str]) -> _Layer:
    values: dict[str, Any] = {}
    for text in sets:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals:
            mistakes.append(_clean(f"--set: {_shown(text)} is not KEY=VALUE; example: --set import.policy=manual"))
        elif key not in KEYS:
            mistakes.append(_unknown("--set", key, value))
        else:
            _put(values, key, KEYS[key].from_text(value))
    return _Layer("flag", values, lambda _: "--set")


def _put(values: dict[str, Any], key: str, value: object) -> None:
    group, dot, name = key.rpartition(".")
    (values.setdefault(group, {}) if dot else values)[name] = value


# --- the check


def _checked(layer: _Layer, mistakes: list[str]) -> dict[str, Any]:
    """The values of one source by key, each of its own type. What is wrong goes to `mistakes`."""
    if not layer.values:
        return {}
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        model = _model().model_validate(layer.values)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_context=False, include_input=False):
            value: Any = layer.values  # as it was written: pydantic tells what a validator made of it
            for part in one["loc"]:
                value = value[part]
            key = ".".join(_segment(str(part)) for part in one["loc"])
            if one["type"] == "extra_forbidden":
                mistakes += [_unknown(layer.place(key), *leaf) for leaf in _leaves(key, value)]
            else:
                allowed = KEYS[key].allowed if key in KEYS else f"a table with {_listed(key + '.')}"
                mistakes.append(
                    _clean(f"{layer.place(key)}: {key} = {_shown(value)} is not allowed; allowed: {allowed}")
                )
        return {}
    found: dict[str, Any] = {}
    for name, value in model.model_dump(exclude_unset=True).items():
        entries = {name: value} if name in KEYS else {f"{name}.{inner}": v for inner, v in value.items()}
        found.update({key: _native(KEYS[key], v) for key, v in entries.items()})
    return found


@cache
def _model() -> type[BaseModel]:
    """The config file as a model: one table per group of keys, nothing beside them."""
    from pydantic import ConfigDict, Field, create_model  # noqa: PLC0415

    strict = ConfigDict(extra="forbid", strict=True)
    tables: dict[str, dict[str, Any]] = {"": {}}
    for key, what in KEYS.items():
        group, _, name = key.rpartition(".")
        default = "" if what.default is None else _plain(what.default)
        field = Field(default=default, description=what.description)
        tables.setdefault(group, {})[name] = (_annotation(what), field)
    fields = tables.pop("")
    for group, members in tables.items():
        table = create_model(group, __config__=strict, **members)
        fields[group] = (table, Field(default_factory=table))
    return create_model("convsync", __config__=strict, __doc__="The config file of convsync.", **fields)


def _annotation(key: Key) -> Any:
    from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema  # noqa: PLC0415

    literal: Any = Literal
    match key.kind:
        case "choice":
            return literal[tuple(str(choice) for choice in key.choices)]
        case "int":
            return Annotated[int, Field(ge=key.minimum, le=key.maximum)]
        case "size":
            whole = {"type": "integer", "minimum": key.minimum, "maximum": key.maximum}
            shape = WithJsonSchema({"anyOf": [whole, {"type": "string", "pattern": f"^{SIZE}$"}]})
            return Annotated[int, Field(ge=key.minimum, le=key.maximum), BeforeValidator(bytes_of), shape]
        case "bool":
            return bool
        case "target":
            return Annotated[str, Field(pattern=f"^({'|'.join(key.choices)}|{TARGET_ID})$")]
        case "text":
            return Annotated[str, Field(pattern=r"^[^\x00]*$")]
        case "path":
            return Annotated[str, Field(pattern=r"^([~/][^\x00]*)?$"), AfterValidator(_path)]


def _path(value: str) -> str:
    path = os.path.expanduser(value)
    if path and not os.path.isabs(path):
        raise ValueError("not absolute")
    return path


def _native(key: Key, value: object) -> object:
    if isinstance(key.default, Enum):
        return type(key.default)(value)
    return value or None if key.default is None else value


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Enum) else value


# --- the words


def _problem(mistakes: Sequence[str]) -> UsageProblem:
    if len(mistakes) == 1:
        return UsageProblem(mistakes[0], hint=HINT, code="config")
    lines = "".join(f"{_NEXT}{mistake}" for mistake in mistakes)
    return UsageProblem(f"{len(mistakes)} mistakes in the settings:{lines}", hint=HINT, code="config")


def _unknown(place: str, key: str, value: object, shown_as: Callable[[str], str] = str) -> str:
    import difflib  # noqa: PLC0415

    near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.75)
    way_out = f"did you mean {shown_as(near[0])}?" if near else f"allowed: {_listed('', shown_as)}"
    return _clean(f"{place}: unknown key {key} = {_shown(value)}; {way_out}")


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")


def _listed(prefix: str, shown_as: Callable[[str], str] = str) -> str:
    return ", ".join(shown_as(key) for key in KEYS if key.startswith(prefix))


def _leaves(key: str, value: object) -> Iterator[tuple[str, object]]:
    """What a table holds, key by key; an empty one is itself what is wrong."""
    if not isinstance(value, Mapping) or not value:
        yield key, value
        return
    for name, inner in value.items():
        yield from _leaves(f"{key}.{_segment(name)}", inner)


def _segment(part: str) -> str:
    bare = part.isascii() and part.replace("_", "").replace("-", "").isalnum()
    return part if bare else repr(part)


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a table"
    text = _clean(str(value).lower() if isinstance(value, bool) else repr(value))
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _clean(text: str) -> str:
    """One line without a secret in it: a wrong value may be one that went to the wrong key."""
    from convsync_agent.redact import redact  # noqa: PLC0415

    return " ".join(redact(text).splitlines())
