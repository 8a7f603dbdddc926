"""Which places of a model get gates: the rules of `insert_gates(..., where=...)`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from vibtheory.errors import reject, shown

__all__ = ["KINDS", "Place", "Rule", "Where", "choose", "rules_of"]

Where = str | Sequence[str] | Mapping[str, str | Mapping[str, Any]]

KINDS = ("mlp", "channels", "heads")


@dataclass(frozen=True)
class Place:
    """A place of one forward pass where a gate can stand.

    Attributes:
        path: of the innermost module that runs there. group: "activation", an attention's "sdpa" or "product", or the
            module's own "output". ordinal: which of that group's calls within `path` it is.
    """

    path: str
    group: str
    ordinal: int = 0


@dataclass(frozen=True)
class Rule:
    """Gates for the places under the modules that `pattern` matches, of one kind or of any, and their options."""

    pattern: str = "*"
    kind: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def takes(self, path: str, kind: str, layer: str = "") -> bool:
        names = (path, layer, *(path[:k] for k, sign in enumerate(path) if sign == "."))
        wanted = kind != "heads" if self.kind == "activation" else self.kind in (None, kind)
        return wanted and (self.pattern == "*" or any(fnmatchcase(name, self.pattern) for name in names if name))


def rules_of(where: Where | None) -> list[Rule]:
    """`where` as rules, of which the first that takes a place counts. None: every activation.

    Raises:
        InvalidInputError: neither names nor kinds nor a mapping of them.
    """
    if where is None:
        return [Rule(kind="activation")]
    given = {where: {}} if isinstance(where, str) else where
    expected = "names of modules or kinds, with a kind or options of their gates"
    remedy = 'pass "mlp", "heads", or {"blocks.*.attn": "heads"}'
    if not isinstance(given, Iterable) or not list(given):
        reject("where", shown(where), expected, remedy)
    found: list[Rule] = []
    for name, what in given.items() if isinstance(given, Mapping) else ((name, {}) for name in given):
        options = {"kind": what} if isinstance(what, str) else what
        if not isinstance(name, str) or not isinstance(options, Mapping):
            reject("where", f"{name!r}: {what!r}", expected, remedy)
        kind = options.get("kind", name if name in KINDS else None)
        if kind not in (None, *KINDS):
            reject("where", f"{name!r}: {kind!r}", f"one of {', '.join(KINDS)}", "leave the kind out for all of them")
        rest = {key: value for key, value in options.items() if key != "kind"}
        found.append(Rule("*" if name in KINDS else name, kind, rest))
    return found


def choose(
    rules: Sequence[Rule], places: Mapping[Place, tuple[str, str]], outputs: Iterable[Place]
) -> dict[Place, Rule]:
    """The rule of each place that gets a gate.

    A rule that takes no activation and no attention under a module that it names takes that module's own output.

    Args:
        rules: from `rules_of`. places: kind and producing layer of each. outputs: of modules that give a tensor.

    Raises:
        InvalidInputError: a rule that takes nothing.
    """
    found: dict[Place, Rule] = {}
    for rule in rules:
        taken = [place for place, (kind, layer) in places.items() if rule.takes(place.path, kind, layer)]
        if not taken and rule.pattern != "*" and rule.kind is None:
            taken = [place for place in outputs if fnmatchcase(place.path, rule.pattern)]
        if not taken and rule.kind != "activation":
            kinds = sorted({f"{place.path or 'the model'} ({kind})" for place, (kind, _) in places.items()})
            reject("where", rule.pattern if rule.pattern != "*" else rule.kind, "something that this model has: "
                   + ", ".join(kinds[:20]), "name one of these, a module of the model, or a kind")  # fmt: skip
        for place in taken:
            found.setdefault(place, rule)
    return found
