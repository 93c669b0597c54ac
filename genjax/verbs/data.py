"""`launch.py data`: what a data source holds, without training."""

import argparse

from genjax.verbs import arguments as common

TEXT = ("show what a data source holds: number, sizes, classes, what was skipped, a contact sheet; the line is the one"
        " that every run on it logs")
LOOKS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    common.json_file(parser)
    parser.add_argument("spec", metavar="SPEC", help="as config.data.source: folder:PATH, npz:PATH, idx:PATH,"
                        " tfds:NAME, builtin:NAME; or one picture (docs/data.md says how they are read)")
    parser.add_argument("--split", default="train", help="train (default), test, train[:500] …, as config.data.split")
    parser.add_argument("--out", metavar="FILE", help="the contact sheet's PNG (default: named after SPEC, here)")
    parser.add_argument("--crops", type=int, help="of builtin:photos and :textures: side of the squares to cut")
    parser.add_argument("--size", type=int, help="of builtin:scenes: side of the pictures")
    parser.add_argument("--data-dir", metavar="DIR", help="of tfds: where sets are prepared")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the line and where the contact sheet is."""
    from genjax.core import contents
    from genjax.viz.grid import save_png

    options = {k: v for k in ("crops", "size", "data_dir") if (v := getattr(args, k)) is not None}
    found = contents.open_contents(args.spec, args.split, **options)
    line = found.summary.line()
    if args.json != "-":
        print(line, flush=True)
    sheet, unreadable = contents.contact_sheet(found.source, f"{args.spec}, split {args.split}")
    out = save_png(args.out or contents.sheet_name(args.spec, args.split), sheet)
    if args.json != "-":
        for error in unreadable:
            print(f"cannot be read: {error}")
        print(f"contact sheet: {out}")
    common.write_json(args.json, found.summary.to_dict() | {
        "spec": args.spec, "contact_sheet": str(out),
        "unreadable": list(dict.fromkeys((*found.summary.unreadable, *unreadable)))})
    return 0
