"""`kindred model check`: does a model fit, how fast is it, and what does it find alike?"""
# ruff: noqa: D301  (the \b of click is a backspace: it keeps the lines of an example apart)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from models.errors import BadRequest
from streams.reports.terminal import Terminal

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
DRAWN = 120
UNUSABLE_SHOWN = 3


@click.group(short_help="Try a model of your own.")
def model() -> None:
    """What KINDRED_MODEL may name: any ONNX network that makes a row of numbers of a picture.

    \b
    Example:  kindred model check mobilenet.onnx
    """


@model.command(short_help="Does a model fit, and how good and fast is it?")
@click.argument("path", metavar="FILE.onnx", type=FILE)
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of your pictures to try it on; without it, pictures that the demo draws.",
)
@click.option("--against", type=FILE, metavar="OTHER.onnx", help="Compare the answers, as of float and int8.")
@click.option(
    "--sheet",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=Path("look-alikes.png"),
    show_default=True,
    help="Where to draw what the model finds alike.",
)
@click.option("-n", "count", type=click.IntRange(3, 10_000), default=500, show_default=True, help="Pictures at most.")
@click.option("--json", "as_json", is_flag=True, help="The findings as one JSON object.")
def check(path: Path, images: Path | None, against: Path | None, sheet: Path, count: int, as_json: bool) -> int:
    """Find out what the graph says of itself, ask for what it does not, and try the model on pictures.

    Layout, size and type come from the graph.  What it leaves open must stand in the .json beside it; what is missing
    is named, with an example, and the command ends with 1.  Needs no broker.

    \b
    Example:  kindred model check mobilenet.onnx --images ~/Pictures/shop
              kindred model check mobilenet.onnx --against mobilenet-int8.onnx
    """
    from models.embedder import Embedder, read_graph
    from models.image import encode_png
    from models.preprocessing import Unsaid
    from streams.commands import model_check

    terminal = Terminal()
    if not as_json:
        graph = read_graph(path)
        rows = [("input", each) for each in graph.inputs] + [("output", each) for each in graph.outputs]
        terminal.table(("the graph's", "is"), rows)
    try:
        embedder = Embedder(path)
        other = None if against is None else Embedder(against)
    except Unsaid as unsaid:
        if as_json:
            terminal.json({"json": str(unsaid.path), "lacking": unsaid.lacking, "example": unsaid.example})
        else:
            _show_unsaid(terminal, unsaid)
        return 1
    cost = model_check.measured(path)
    drawn = min(count, DRAWN)
    source = model_check.drawn_pictures(drawn) if images is None else model_check.folder_pictures(images, count)
    with terminal.progress("read" if images else "drew", "pictures", drawn if images is None else None) as advance:
        pictures = []
        for picture in source:
            pictures.append(picture)
            advance()
    with terminal.progress("embedded", "pictures", len(pictures)) as advance:
        found = model_check.tried(embedder, pictures, advance)
    agreement = None
    if other is not None:
        with terminal.progress("embedded", "pictures", len(pictures)) as advance:
            agreement = model_check.agreement(found, model_check.tried(other, pictures, advance))
    not_drawn = None
    try:
        terminal.file(sheet, encode_png(model_check.look_alikes(found)))
    except BadRequest as error:  # what was found out in minutes is told all the same
        not_drawn = error
    said = embedder.preprocessing
    report: dict[str, Any] = {
        "model": embedder.model,
        "dimension": embedder.dimension,
        "searchedBy": found.searched.shape[1],
        "input": said._asdict(),
        "cost": msgspec.to_builtins(cost),
        "pictures": len(found.pictures),
        "unusable": [{"picture": name, "reason": reason} for name, reason in found.unusable],
        "companyCosine": found.company_cosine,
        "against": None if agreement is None else msgspec.to_builtins(agreement),
        "sheet": None if not_drawn else str(sheet),
    }
    if as_json:
        terminal.json(report)
    else:
        show_check(terminal, report)
    if not_drawn:
        raise not_drawn
    return 0


def _show_unsaid(terminal: Terminal, unsaid: Any) -> None:
    from models.preprocessing import MEANINGS

    terminal.line(f"{unsaid.path.name} must say what the graph does not:", style="yellow")
    terminal.table(("name", "meaning"), [(name, MEANINGS[name]) for name in unsaid.lacking])
    terminal.line(f"For example, to be put into {unsaid.path} once its values are those of your network:")
    terminal.line(unsaid.example_text, style="bold")


def show_check(terminal: Terminal, report: dict[str, Any]) -> None:
    """What was found, for people; `report` as `--json` has it."""
    said, cost, against = report["input"], report["cost"], report["against"]
    scaled = (
        "the pixels as they are"
        if said["dtype"] == "uint8"
        else f"(pixel - {_row(said['mean'])}) / {_row(said['std'])}"
    )
    rows: list[tuple[str, object]] = [
        ("model", report["model"]),
        ("takes", f"{said['dtype']} {said['layout']}, {said['size']} x {said['size']} {said['channels']}, {scaled}"),
        (
            "gives",
            f"{report['dimension']:,} numbers a picture, from {said['output']!r}",
        ),
        *_projected(report),
        (
            "speed",
            f"{cost['pictures_per_s']:,.0f} pictures/s on one free thread, after decoding "
            f"({cost['clock_pictures_per_s']:,.0f}/s by the clock just now)",
        ),
        ("memory", f"{cost['memory_bytes'] / 1e6:,.0f} MB, loaded in {cost['load_s']:.2f} s"),
        ("tried on", f"{report['pictures']:,} pictures, {len(report['unusable']):,} could not be used"),
    ]
    if against is not None:
        kept = f"{against['neighbours_kept']:.1%} of the 10 nearest are the same"
        cosines = "other dimensions, so the vectors cannot be compared"
        if against["cosine_min"] is not None:
            cosines = (
                f"cosine of a picture's two vectors {against['cosine_mean']:.4f} in the mean, "
                f"{against['cosine_min']:.4f} at worst ({against['worst']})"
            )
        rows.append((f"against {against['other']}", f"{kept}; {cosines}"))
    if report["sheet"]:
        rows.append(("look-alikes", report["sheet"]))
    terminal.table(("what", "found"), rows)
    for doubt in _doubts(report):
        terminal.note(doubt, style="yellow")
    for each in report["unusable"][:UNUSABLE_SHOWN]:
        terminal.note(f"{each['picture']}: {each['reason']}", style="yellow")


def _doubts(report: dict[str, Any]) -> Iterator[str]:
    """What runs, and is most likely not meant."""
    from streams.commands.model_check import COMPANY_COSINE_MIN

    said, cosine = report["input"], report["companyCosine"]
    if said["dtype"] != "uint8" and max(said["std"]) < 1:
        yield "std is below 1: mean and std are in units of 0..255, so those of networks for pixels of 0..1 times 255"
    if cosine < COMPANY_COSINE_MIN:
        yield (
            f"a picture's vector depends on what is embedded with it (cosine {cosine:.3f} at worst, expected 1): "
            "was the network exported in training mode, or quantized dynamically?"
        )


def _projected(report: dict[str, Any]) -> list[tuple[str, object]]:
    """What of a wide model's vectors is searched by, from so many pictures on; the look-alikes are found so, too."""
    from models.projection import SAMPLE_MIN

    width, searched, pictures = report["dimension"], report["searchedBy"], report["pictures"]
    if width == searched:
        return []
    lost = "" if pictures > searched else f"; with more than {searched} it is seen what is lost by that"
    told = f"from {SAMPLE_MIN:,} pictures on; what follows, too, fitted on these {pictures:,}{lost}"
    return [("searched by", f"{searched} of them, {told}")]


def _row(numbers: tuple[float, ...]) -> str:
    """Three numbers, or the one that all are."""
    shown = [f"{number:g}" for number in numbers]
    return shown[0] if len(set(shown)) == 1 else f"[{', '.join(shown)}]"
