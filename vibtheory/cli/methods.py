"""`vibtheory methods`: the compared methods rerun in one harness, their printed rows beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vibtheory.cli.exit_codes import NOT_APPLICABLE
from vibtheory.cli.options import Accelerate, Amp, Cluster, Device, Jobs, Root, Runs, refuse_all_but, refuse_given
from vibtheory.cli.output import draw
from vibtheory.errors import reject

__all__ = ["methods"]


def methods(
    context: typer.Context,
    table: Annotated[int, typer.Option(help="1 (LeNet-300-100), 2 (LeNet-5-Caffe) or 3 (VGG-16).")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="The same as --budget quick: a look (minutes).")] = False,
    budget: Annotated[
        str | None, typer.Option(help="quick, reduced (7 epochs, 10,000 images), full (the default), or gpu.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say how many runs and core-minutes.")] = False,
    nets: Annotated[bool, typer.Option("--nets", help="Also measure the nets: ranks, T8, I(h1; x).")] = False,
    only: Annotated[str, typer.Option("--methods", help="Names with commas: VIBNet,L0,SBP; all if left out.")] = "",
    jobs: Jobs = 1,
    cluster: Cluster = None,
    device: Device = "auto",
    root: Root = None,
    accelerate: Accelerate = "none",
    amp: Amp = None,
    out: Annotated[Path, typer.Option(help="Folder for methods_tableN.csv and its figure.")] = Path("figures"),
    runs: Runs = Path("runs"),
) -> None:
    """Train every compared method on the same net, data and recipe; print its printed row beside ours.

    Each method's price is chosen on 5,000 held-out training images, then fresh seeds are read once on the test set.
    Finished runs are not repeated, stopped ones go on.

    Exit code 3: a method collapsed (a layer lost all its units) at every price, or in a run on the test set.
    """
    from vibtheory.figures import method_curves
    from vibtheory.studies.methods import (
        collapsed,
        compare_methods,
        expected_cost,
        method_table,
        methods_on,
        methods_table,
    )
    from vibtheory.studies.tables import TITLES, markdown

    if quick and budget not in (None, "quick"):
        reject("--budget", f"{budget} together with --quick", "one of them", "leave one out")
    names, budget = [name for name in only.split(",") if name], "quick" if quick else budget or "full"
    if plan:
        refuse_all_but(context, ("table", "quick", "budget", "only", "plan"), "none with --plan, which trains nothing")
        cost = expected_cost(table, budget, names)
        total = f"{cost['runs'].sum()} runs, at most {cost['core_minutes'].sum():.0f} core-minutes"
        typer.echo(f"{markdown(cost.astype(str))}\n{total} on this machine")
        return
    if cluster is not None:
        refuse_given(context, ("jobs",), "none with --cluster, whose workers are taken")
    results = compare_methods(
        table,
        budget=budget,
        methods=names,
        out=out,
        runs=runs,
        jobs=jobs,
        cluster=cluster,
        device=device,
        root=root,
        accelerate=accelerate,
        amp=amp,
        announce=lambda line: typer.echo(line, err=True),
    )
    typer.echo(f"{TITLES[table]}, {budget}\n\n{markdown(method_table(table, results))}", nl=False)
    path = methods_table(table, budget, out).path
    draw(lambda: method_curves(results, table, budget), path)
    typer.echo(f"wrote {path}, .png and .pdf", err=True)
    if nets:
        from vibtheory.figures import method_information
        from vibtheory.studies.method_nets import measure_nets

        inside = measure_nets(table, budget=budget, methods=names, out=out, runs=runs, root=root)
        typer.echo(f"\n{markdown(inside.round(3).astype(str))}", nl=False)
        draw(lambda: method_information(inside), path.with_name(path.name.replace("table", "nets_table")), ("png",))
    if collapsed(results) & {method.name for method in methods_on(table, names)}:
        raise typer.Exit(NOT_APPLICABLE)
