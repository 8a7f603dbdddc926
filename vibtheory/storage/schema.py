"""Plain data fits its declaration or is refused: fields, types and ranges stand once, in a dataclass's annotations.

The declarations are read by pydantic, which typer brings anyway: it knows ranges, choices and nesting, and says where
and why data do not fit, which `fit` puts into the words of the house. Nothing is converted: an object keeps the values
that it was given, so that the JSON of recorded settings, and the fingerprints made of it, stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from vibtheory.errors import reject, shown

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Declared", "Fraction", "Misfit", "Positive", "Price", "Seed", "check", "check_columns", "fit"]

LARGEST = 1e38  # of any number in a recipe: float32 ends soon after
Price = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Misfit(ValueError):
    """Data that do not fit: which `argument`, what was `got`, what was `expected`."""

    def __init__(self, argument: str, got: str, expected: str) -> None:
        super().__init__(f"{argument}: got {got}, expected {expected}")
        self.argument, self.got, self.expected = argument, got, expected


def fit(declaration: type, plain: object, what: str, more: bool = False, within: str = "") -> None:
    """Raise Misfit unless `plain` is a mapping with every field of a dataclass that has no default, each of its type.

    Args:
        declaration: the dataclass.
        plain: from JSON or TOML, or an object's own fields.
        what: what the message calls the whole.
        more: whether other keys are let pass.
        within: what the message puts before a field's name.
    """
    if not isinstance(plain, Mapping):
        raise Misfit(what, shown(plain), "an object: settings by name")
    model, required = _model(declaration)
    unknown, missing = sorted(set(plain) - set(model.model_fields)), [name for name in required if name not in plain]
    if unknown and not more:
        raise Misfit(what, f"unknown {', '.join(unknown)}", f"keys among {', '.join(model.model_fields)}")
    if missing:
        raise Misfit(what, f"no {', '.join(missing)}", f"the keys {', '.join(required)}")
    try:
        model.model_validate(dict(plain))
    except ValidationError as error:
        raise _misfit(error, plain, within) from None


def check(declaration: type, plain: object, what: str, within: str = "") -> None:
    """`fit` at the edge: raises InvalidInputError where `plain` does not fit `declaration`."""
    try:
        fit(declaration, plain, what, within=within)
    except Misfit as misfit:
        reject(misfit.argument, misfit.got, misfit.expected, f"give {misfit.argument} such a value")


@dataclass(frozen=True)
class Declared:
    """Base of frozen dataclasses that are checked against their annotations when they are made."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError about the first field that does not fit."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        check(type(self), own, type(self).__name__)


@lru_cache
def _model(declaration: type) -> tuple[type[BaseModel], tuple[str, ...]]:
    """The pydantic model of a dataclass, and its fields without a default."""
    hints = get_type_hints(declaration, include_extras=True)
    own = fields(declaration)
    required = tuple(f.name for f in own if f.default is MISSING and f.default_factory is MISSING)
    wanted: dict[str, Any] = {f.name: (hints[f.name], ... if f.name in required else None) for f in own}
    config = ConfigDict(strict=True, arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(declaration.__name__, __config__=config, **wanted), required


def _misfit(error: ValidationError, plain: Mapping[str, Any], within: str) -> Misfit:
    """The first field that does not fit, at the innermost place that pydantic names."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    field = found[0]["loc"][0]
    places: dict[str, tuple[int, Any, list[str]]] = {}
    for one in (one for one in found if one["loc"][0] == field):
        place, value, depth = str(field), plain[str(field)], 0
        for part in one["loc"][1:]:  # names of a union's members are no places in the data
            indexed = isinstance(part, int) and isinstance(value, Sequence) and part < len(value)
            if indexed or (isinstance(value, Mapping) and part in value):
                place, value, depth = f"{place}[{part!r}]", value[part], depth + 1
        places.setdefault(place, (depth, value, []))[2].append(_expected(one["msg"]))
    place, (_, value, expected) = max(places.items(), key=lambda item: item[1][0])
    return Misfit(f"{within} {place}".strip(), shown(value), " or ".join(dict.fromkeys(expected)))


def _expected(message: str) -> str:
    words = message.removeprefix("Input should be ")
    if words.startswith(("greater", "less")):
        return f"a number {words}"
    return words.replace("a valid integer", "a whole number").replace("valid ", "")


# What a column holds goes by its name, the same in every table of the project; the others hold finite numbers.
_TEXT = frozenset({"layer", "kind", "level", "certificate", "verdict", "mode", "stage", "phase", "method", "network"})
_FLAGS = frozenset({"gated", "saturated", "vacuous"})
_MAY_BE_INFINITE = frozenset({"nats", "ceiling"})


def check_columns(argument: str, table: DataFrame, columns: Iterable[str], optional: Iterable[str] = ()) -> None:
    """Raise unless `table` has a row, all `columns`, and in each of them what its name promises.

    Args:
        argument: what the error calls the table.
        columns: names; text, yes or no, or finite numbers (nats and ceilings may be infinite).
        optional: those of them whose cells may be empty.

    Raises:
        InvalidInputError: no row, a column missing, an empty cell, or a cell of another kind; names the column.
    """
    remedy = "record the table again, or correct that column"
    missing = [name for name in columns if name not in table.columns]
    if missing or table.empty:
        reject(argument, f"no {', '.join(missing) or 'row'}", "a table with them", remedy)
    for name in columns:
        cells = table[name]
        if cells.isna().any():
            if name not in set(optional):
                reject(argument, f"{int(cells.isna().sum())} empty cells in {name}", "none", remedy)
            cells = cells.dropna()
        if name in _TEXT:
            fits, expected = all(isinstance(cell, str) for cell in cells), "text"
        elif name in _FLAGS:
            fits, expected = all(isinstance(cell, bool | np.bool_) for cell in cells), "True or False"
        else:
            numbers = cells.dtype.kind in "iuf"
            fits = numbers and (name in _MAY_BE_INFINITE or bool(np.isfinite(cells).all()))
            expected = "finite numbers"
        if len(cells) and not fits:
            reject(argument, f"other entries in {name}", expected, remedy)
