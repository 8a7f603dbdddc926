"""`vibtheory check`: the sparsity bounds on every gated layer of a trained model, or T8 on its own objective."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vibtheory.cli.exit_codes import NOT_APPLICABLE, VIOLATED
from vibtheory.cli.options import DataIfRecorded, Root, State, Where, about, refuse_given
from vibtheory.cli.output import draw
from vibtheory.errors import as_seed, check_choice, reject

if TYPE_CHECKING:
    from vibtheory.studies.bound_table import BoundTable
    from vibtheory.theory.network_report import NetworkReport
    from vibtheory.theory.trained_objective import TrainedNetworkReport

__all__ = ["check"]

_MOST = 10**6  # samples of z, each a pass over the data
_CODES = {"holds": 0, "violated": VIOLATED}  # else not applicable


def check(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Folder of a saved run, or module:factory for any torch model.")],
    data: DataIfRecorded = None,
    state: State = None,
    layer: Annotated[list[str] | None, typer.Option(help="Only this layer; may be repeated.")] = None,
    kind: Annotated[
        str,
        typer.Option(help="Quadratic bound: auto, exact, bohning, lipschitz, fitted, tangent; or all, side by side."),
    ] = "auto",
    gamma: Annotated[float | None, typer.Option(help="Price of information γ, if none is recorded.")] = None,
    where: Where = None,
    examples: Annotated[int | None, typer.Option(help="Use so many random training examples.")] = None,
    samples: Annotated[int | None, typer.Option(help="Of z, for kinds fitted and tangent.")] = None,
    points: Annotated[int, typer.Option(help="With --kind all: z on which each rigorous bound is verified.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Of every sample.")] = 0,
    root: Root = None,
    json: Annotated[Path | None, typer.Option(help="Write the whole report here.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one line per layer here.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the report here: .png, .pdf or .svg.")] = None,
    details: Annotated[bool, typer.Option("--details", help="Print every statement and certificate.")] = False,
    trained: Annotated[
        bool, typer.Option("--trained", help="Judge the training objective itself (T8), without a quadratic bound.")
    ] = False,
    draws: Annotated[int, typer.Option(help="With --trained: draws of every example's noise.")] = 6,
    polish: Annotated[int, typer.Option(help="With --trained: first bring the gates to rest, in so many steps.")] = 0,
) -> None:
    """Decide the sparsity bounds (at most rank[A] + 1 gates survive, and two tighter ones) on every gated layer.

    A model without gates gets them after each activation, or --where. Exit code: 0 holds, 1 violated, 2 bad input, 3
    not applicable (with --trained: not at a minimum, or not resolved).
    """
    if figure is not None:
        check_choice("--figure", figure.suffix, (".png", ".pdf", ".svg"))
    if trained:
        refuse_given(context, ("kind", "samples", "points", "details"), "none with --trained, which needs no bound")
    else:
        refuse_given(context, ("draws", "polish"), "--trained beside it")
        if kind == "all":
            refuse_given(context, ("samples",), "none with --kind all, whose number is --points")
        else:
            refuse_given(context, ("points",), "--kind all beside it")
    as_seed("--seed", seed)
    for option, number in (("--points", points), ("--samples", samples)):
        if number is not None and not 1 <= number <= _MOST:
            reject(option, number, f"a whole number from 1 to {_MOST}", "leave it out for the default")
    import torch

    from vibtheory.bridge.checking import check_network
    from vibtheory.cli import inputs
    from vibtheory.networks.insertion import insert_gates
    from vibtheory.storage import write_text

    net, trained_on = inputs.trained_model(model, state)
    name = data or trained_on
    if name is None:
        reject("--data", "none", "the data that the model was trained on", "pass --data mnist, or an .npz file")
    loaded = inputs.dataset(name, root, examples, seed)
    if where:
        net = insert_gates(net, torch.as_tensor(loaded.x_train[:2]), **inputs.places(net, where))
    report: NetworkReport | BoundTable | TrainedNetworkReport
    if trained:
        from vibtheory.bridge.trained import check_trained

        if len(layer or ()) > 1:
            reject("--layer", "several", "one, or none for all of them, with --trained", "name one layer")
        name = layer[0] if layer else None
        report = check_trained(net, loaded, name, gamma=gamma, draws=draws, polish=polish, seed=seed)
        parts = [str(report)]
    elif kind == "all":
        from vibtheory.studies.bound_table import compare_bounds

        report = compare_bounds(net, loaded, gamma, layer or None, points=points, seed=seed)
        parts = [str(report), *(str(row.report) for row in report if details and row.report is not None)]
    else:
        report = check_network(net, loaded, gamma=gamma, kind=kind, layers=layer or None, samples=samples, seed=seed,
                               progress=sys.stderr.isatty())  # fmt: skip
        parts = [str(each) for each in report] if details else [str(report)]
    typer.echo("\n".join(parts))
    if json is not None:
        with about("--json"):
            write_text(json, report.to_json(indent=1) + "\n")
    if csv is not None:
        with about("--csv"):
            write_text(csv, report.to_frame().to_csv(index=False))
    if figure is not None:
        with about("--figure"):
            draw(report.plot, figure, (figure.suffix[1:],))
    raise typer.Exit(_CODES.get(report.verdict, NOT_APPLICABLE))
