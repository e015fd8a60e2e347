"""`python -m bench.quality`: every figure on the shared packs, Kindred's model beside the baselines, and sheets to see.

All of them go through Kindred's own decoding, resizing, centring and search (`pipeline.py`); what the figures mean is
defined in `shared/tools/eval_quality.py`.  `--write-card` puts the tables into docs/model.md.
"""

from __future__ import annotations

import os

# Before NumPy is imported, as the workers have it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from bench.environment import environment, environment_line
from bench.quality import card, colour, queries
from bench.quality.definitions import definitions, figures_of
from bench.quality.packs import ROOT, TEST, VAL, Judged, Split, load_split, shared_folder
from bench.quality.pipeline import Embed, compared, embedding, kept
from models.embedder import SHIPPED, Embedder
from models.image import decode, encode_png
from models.vectors import Vectors, unit
from streams.reports.terminal import Terminal

RESULTS = ROOT / "bench" / "results"
BASELINES = {
    "MobileNetV1 0.25 (224)": "mobilenet_v1_0.25_224",
    "MobileNetV1 0.5 (160)": "mobilenet_v1_0.5_160",
    "SqueezeNet 1.1 (224)": "squeezenet_v1.1_224",
    "MobileNetV1 1.0 (224)": "mobilenet_v1_1.0_224",
    "MobileNetV2 1.0 (224)": "mobilenet_v2_1.0_224",
    "MobileNet EdgeTPU 0.75 (224)": "mobilenet_edgetpu_0.75_224",
}
TRIVIAL = {"32 x 32 pixels": ("pixels32", 32), "colour histogram 8 x 8 x 8": ("hist888", 96)}
SEEN_BESIDE = ("MobileNetV1 0.5 (160)", "MobileNetV2 1.0 (224)")
IN_WORDS = 3


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="the test splits and the shipped model alone")
    parser.add_argument("--model", type=Path, default=SHIPPED, help="another model in the shipped one's place")
    parser.add_argument("--write-card", action="store_true", help="put the tables into docs/model.md")
    parser.add_argument("--json", type=Path, default=RESULTS / "quality.json", help="where the figures are written")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute, show and write everything; 1 where the shared packs are not here."""
    options, terminal = parser().parse_args(arguments), Terminal()
    if options.write_card and (options.quick or options.model != SHIPPED):
        parser().error("--write-card tells of the shipped model and of everything: leave --quick and --model out")
    shared = shared_folder()
    if shared is None:
        terminal.note("the shared packs are not here: expected ../shared, or KINDRED_SHARED to name the folder", "red")
        return 1
    about, quality = environment(), definitions(shared)
    figures: dict[tuple[str, str], dict[Split, dict[str, float]]] = {}
    found: dict[Split, dict[str, queries.Found]] = {}
    judged = {split: load_split(shared, split, quality) for split in TEST}
    if not options.quick:
        judged |= {split: load_split(shared, split, quality, [quality.HARD]) for split in VAL}
    for what, embed in embeddings(options, shared, quality, terminal, judged):
        for split, pictures in judged.items():
            for mode in card.MODES:
                similarity, again = compared(pictures, embed, mode == "centred")
                told = figures_of(quality, similarity, pictures.categories, pictures.senders, again, pictures.picked)
                figures.setdefault((what, mode), {})[split] = told
            name = Path(options.model).stem if what == card.SHIPPED_ROW else what
            if split in TEST and (what == card.SHIPPED_ROW or what in SEEN_BESIDE):
                found.setdefault(split, {})[what] = queries.found_by(name, pictures, similarity)
        terminal.note(f"{what.strip('*')} is judged")
    embedder = Embedder(options.model)
    rows = {split: colour.rows_of_pack(pictures, embedder) for split, pictures in judged.items()}
    figures[card.SHIPPED_ROW, card.DEFAULT] = {
        split: colour.by_default(quality, pictures, rows[split]) for split, pictures in judged.items()
    }
    show(terminal, figures, about, options.quick)
    by_weight: colour.ByWeight = {}
    if not options.quick:
        by_weight = colour.by_weight(quality, {split: judged[split] for split in VAL}, rows)
        terminal.line()
        colour.show(terminal, by_weight, embedder.model)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(
        orjson.dumps(as_json(figures, by_weight, about, options.model), option=orjson.OPT_INDENT_2) + b"\n"
    )
    sheets = draw(found)
    terminal.line(f"figures: {options.json}")
    terminal.line(f"sheets: {', '.join(path.name for path in sheets)} in {sheets[0].parent}")
    if options.write_card:
        write_card(figures, by_weight, found)
        terminal.line(f"written: {card.CARD}")
    return 0


def embeddings(
    options: argparse.Namespace, shared: Path, quality: Any, terminal: Terminal, judged: dict[Split, Judged]
) -> Iterator[tuple[str, Embed]]:
    """What is judged, by name; vectors of baselines are kept, those of the shipped model are made anew."""
    count = sum(len(each.whole) + sum(map(len, each.again.values())) for each in judged.values())
    if not options.quick:
        for what, (name, size) in TRIVIAL.items():
            yield what, kept(_trivial(getattr(quality, name), size), name)
        for what, name in BASELINES.items():
            embedder = Embedder(shared / "models" / f"{name}.onnx")
            with terminal.progress(what, "pictures", None) as advance:
                yield what, kept(embedding(embedder, advance), embedder.model)
    embedder = Embedder(options.model)
    with terminal.progress("Kindred", "pictures", count) as advance:
        yield card.SHIPPED_ROW, _once(embedding(embedder, advance))


def _once(embed: Embed) -> Embed:
    """The same, with what it gave kept for as long as it lives: both ways of comparing want the same vectors."""
    known: dict[int, Vectors] = {}

    def embed_or_know(files: Sequence[bytes]) -> Vectors:
        if id(files) not in known:  # the packs' own lists, which outlive this
            known[id(files)] = embed(files)
        return known[id(files)]

    return embed_or_know


def _trivial(features: Any, size: int) -> Embed:
    from PIL import Image

    def embed(files: Sequence[bytes]) -> Vectors:
        return unit(features([Image.fromarray(decode(file, size)) for file in files]))

    return embed


def show(terminal: Terminal, figures: card.Figures, about: dict[str, Any], quick: bool) -> None:
    """The tables for people; test and val apart."""
    terminal.line(environment_line(about))
    for table in ("test",) if quick else ("test", "val"):
        heads = card.headings(table)
        terminal.line()
        terminal.line(f"{table} splits", style="bold")
        terminal.table(heads, [[row[0].strip("*"), *row[1:]] for row in card.rows(table, figures)], numbers=heads[2:])


def as_json(figures: card.Figures, by_weight: colour.ByWeight, about: dict[str, Any], model: Path) -> dict[str, Any]:
    """All figures, unrounded, test and val apart."""
    out: dict[str, Any] = {"environment": about, "model": Embedder(model).model, "test": [], "val": []}
    for (what, mode), by_split in figures.items():
        for split, told in by_split.items():
            row = {"what": what.strip("*"), "compared": mode, "pack": split.pack, "figures": told}
            out["test" if split.split == "test" else "val"].append(row)
    out["colour"] = [{"weight": weight, "figures": told} for weight, told in by_weight.items()]
    return out


def draw(found: dict[Split, dict[str, queries.Found]]) -> list[Path]:
    """Sheets of the best, the worst and the usual queries, and of the models beside each other."""
    folder = RESULTS / "quality"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for split, by_model in found.items():
        ours = by_model[card.SHIPPED_ROW]
        order = queries.ranked(ours)
        usual = [order[number * len(order) // queries.SHOWN] for number in range(queries.SHOWN)]
        pages = {
            "best": queries.sheet(ours, "The best queries", queries.apart(ours, order, queries.SHOWN)),
            "worst": queries.sheet(ours, "The worst queries", queries.apart(ours, order[::-1], queries.SHOWN)),
            "usual": queries.sheet(ours, "Queries from the best to the worst, evenly", usual),
        }
        if len(by_model) > 1:
            pages["beside"] = queries.beside(list(by_model.values()), usual[1::2][: queries.BESIDE])
        for name, page in pages.items():
            path = folder / f"{split.pack}-{split.split}-{name}.png"
            path.write_bytes(encode_png(page))
            written.append(path)
    return written


def write_card(figures: card.Figures, by_weight: colour.ByWeight, found: dict[Split, dict[str, queries.Found]]) -> None:
    """The tables and the queries, into the parts of docs/model.md that are for them."""
    text = card.with_part("model", f"`{Embedder().model}`", card.CARD.read_text())
    for table in ("test", "val"):
        text = card.with_part(table, card.markdown(card.headings(table), card.rows(table, figures)), text)
    text = card.with_part("colour", card.markdown(*colour.cells(by_weight)), text)
    lines = []
    for split, by_model in found.items():
        ours = by_model[card.SHIPPED_ROW]
        order = queries.ranked(ours)
        for kind, chosen in (("best", order), ("worst", order[::-1])):
            for name, category, precision, what in queries.in_words(ours, queries.apart(ours, chosen, IN_WORDS)):
                lines.append([f"{split.pack}, {kind}", f"`{name}`", category, f"{precision:.2f}", what])
    heads = ["", "query", "category", "AP@10", "of the ten found first"]
    card.CARD.write_text(card.with_part("queries", card.markdown(heads, lines), text))


if __name__ == "__main__":
    sys.exit(main())
