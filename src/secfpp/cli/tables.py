"""`secfpp table`: the results of a run as a table for papers and programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from secfpp.errors import ConfigError, Problem


class TableFormat(StrEnum):
    """How a table is written."""

    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


def table(
    directory: Path = typer.Argument(metavar="RUN", help="A directory that run, compare or demo made."),
    as_: TableFormat | None = typer.Option(
        None, "--format", help="Of --out by its ending (.md, .tex, .csv, .json), or else markdown, if not given."
    ),
    metric: str = typer.Option(
        "",
        metavar="A,B,...",
        help="Columns, e.g. own,own_domain_no_prior,groups,ari,sent,seconds; all of interest if not given.",
    ),
    against: str = typer.Option(
        "",
        "--against",
        metavar="LABEL",
        help="Paired differences of this method; that of the report if not given.",
    ),
    no_differences: bool = typer.Option(False, "--no-differences", help="Leave the paired differences out."),
    methods: str = typer.Option("", metavar="A,B,...", help="Rows, in this order; all methods if not given."),
    by_seed: bool = typer.Option(False, "--by-seed", help="Of CSV: one line for each seed."),
    out: Path | None = typer.Option(None, metavar="FILE", help="Write the table there instead of printing it."),
) -> None:
    """Print the results of a run as a table: Markdown, LaTeX (booktabs), CSV or JSON.

    Means with 95 % intervals, paired differences of one method to the others with intervals and corrected p-values,
    groups, bytes and seconds. Of an unfinished run it has what is there; what is missing is told beside it.
    """
    from secfpp.cli.training import parse_labels
    from secfpp.experiment.report.comparison import unfinished
    from secfpp.experiment.report.table_formats import FORMATS, csv_by_seed
    from secfpp.experiment.results.run_directory import open_results
    from secfpp.experiment.run.result_files import finished_results
    from secfpp.storage import atomic_write

    endings = {f".{form.ending}": TableFormat(name) for name, form in FORMATS.items()}
    chosen = as_ or (endings.get(out.suffix) if out else None) or TableFormat.MARKDOWN
    problems = []
    if by_seed and chosen is not TableFormat.CSV:
        problems.append(Problem("--by-seed", True, f"only with --format csv, not {chosen}; JSON has all seeds anyway"))
    if no_differences and against:
        problems.append(Problem("--no-differences", True, "not with --against, which asks for them"))
    if problems:
        raise ConfigError(problems)
    labels = parse_labels(methods) if methods else ()
    keys = parse_labels(metric, "--metric", "metric") if metric else ()
    with open_results(directory) as results:
        files = finished_results(results)
        summary = files.summary()
        made = files.table(summary, labels, keys, None if no_differences else against)
    text = csv_by_seed(made) if by_seed else FORMATS[chosen].write(made)
    if out is None:
        typer.echo(text, nl=False)
    else:
        try:
            atomic_write(out, text.encode())
        except OSError as error:
            raise ConfigError([Problem("--out", str(out), f"cannot be written ({error.strerror})")]) from error
    for name, seeds in unfinished(summary).items():
        if not labels or name in labels:
            typer.echo(f"Missing: {name}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}", err=True)
