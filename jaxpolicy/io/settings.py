"""Sets keys of a config from text, `agent.learning_rate=3e-4`, each with the type that it has."""

import ast
import difflib
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import config_dict

_NAME = 'config'
# What becomes of a group when its key `name` is changed: group -> (its values, the new name) -> the
# new values. `runs.recipe` adds that of `env`; other groups keep their fields.
EXCHANGES: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {}
_TRUE, _FALSE = ('true', '1', 'yes'), ('false', '0', 'no')


def override(config: config_dict.ConfigDict, overrides: Sequence[tuple[str, str]]) -> None:
    """Sets dotted keys from text, in place, each with the type that the config has there.

    None (`none`) can be set where the config holds None or a placeholder. Sequences are written
    `3,4` or `(3,4)`. Names of groups in `EXCHANGES` come first, whatever the order.

    Raises:
      ValueError: an unknown key (the nearest is named), or text of another type.
    """
    names = [f'{name}.name' for name in EXCHANGES]
    for key, text in sorted(overrides, key=lambda pair: pair[0] not in names):
        group, leaf = _find(config, key)
        old: Any = group[leaf]
        value = _convert(key, text, old, group.get_type(leaf))
        if key in names and value != old:
            name = key.split('.')[0]
            fields = EXCHANGES[name](group.to_dict(), value)
            with config.unlocked():
                config[name] = config_dict.ConfigDict(fields)
            continue
        with group.unlocked():
            group[leaf] = value


def keys(config: config_dict.ConfigDict, prefix: str = '') -> list[str]:
    """The dotted names of everything that can be set."""
    found = []
    for name, value in config.items():
        if isinstance(value, config_dict.ConfigDict):
            found += keys(value, f'{prefix}{name}.')
        else:
            found.append(prefix + name)
    return found


def _find(config: config_dict.ConfigDict, key: str) -> tuple[config_dict.ConfigDict, str]:
    *groups, leaf = key.split('.')
    node: Any = config
    for name in groups:
        if not isinstance(node, config_dict.ConfigDict) or name not in node:
            raise ValueError(_unknown(config, key))
        node = node[name]
    if not isinstance(node, config_dict.ConfigDict) or leaf not in node:
        raise ValueError(_unknown(config, key))
    value = node[leaf]
    if isinstance(value, config_dict.ConfigDict):
        inside = ', '.join(f'{key}.{name}' for name in keys(value))
        hint = f'set one of {inside}' if inside else 'it is empty, and only a recipe can fill it'
        raise ValueError(f'--{_NAME}.{key} is a group; {hint}')
    return node, leaf


def _unknown(config: config_dict.ConfigDict, key: str) -> str:
    names = keys(config)
    near = difflib.get_close_matches(key, names, n=3, cutoff=0.6)
    leaf = key.rsplit('.', 1)[-1]
    same = [name for name in names if name.rsplit('.', 1)[-1] == leaf]
    hint = list(dict.fromkeys(same + near))[:3]
    end = f'did you mean {" or ".join(hint)}?' if hint else f'the keys are {", ".join(names)}'
    return f'--{_NAME}.{key}: no such key; {end}'


def _convert(key: str, text: str, old: Any, kind: type) -> Any:
    if old is None and text.lower() == 'none':
        return None
    if kind is bool:
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise ValueError(_wrong(key, 'true or false', text))
    if kind in (int, float):
        return _number(key, text, kind)
    if kind in (tuple, list):
        return kind(_sequence(key, text, old or ()))
    return text if kind is str else _literal(text)


def _number(key: str, text: str, kind: type) -> int | float:
    try:
        value = kind(text)
    except ValueError as error:
        if kind is int and 'e' in text.lower():  # 1e6 steps
            value = _literal(text)
            if isinstance(value, float) and value.is_integer():
                return _fitting(key, text, int(value))
        expected = 'an integer' if kind is int else 'a number'
        raise ValueError(_wrong(key, expected, text)) from error
    return _fitting(key, text, value)


def _fitting(key: str, text: str, value: Any) -> Any:
    """The value; a ValueError where it is an integer that no array can hold."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(_wrong(key, 'an integer below 2**63', text))
    return value


def _sequence(key: str, text: str, old: Sequence[Any]) -> list[Any]:
    value = _literal(text)
    if not isinstance(value, tuple | list):
        value = [_literal(part.strip()) for part in text.split(',') if part.strip()]
    kinds = {type(item) for item in old}
    if len(kinds) != 1:
        return list(value)
    kind = kinds.pop()
    value = [float(item) if kind is float and type(item) is int else item for item in value]
    value = [_fitting(key, text, item) for item in value]
    if any(type(item) is not kind for item in value):
        raise ValueError(_wrong(key, f'a sequence of {kind.__name__}', text))
    return value


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _wrong(key: str, expected: str, text: str) -> str:
    return f'--{_NAME}.{key}: expected {expected}, found {text!r}'
