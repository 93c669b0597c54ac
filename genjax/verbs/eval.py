"""`launch.py eval`: metrics of a run."""

import argparse

from genjax.verbs import arguments as common
from genjax.viz.waiting import waiting

TEXT = "compute the task's metrics from a run's newest snapshot or checkpoint"
LOOKS = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    common.json_file(parser)
    parser.add_argument("run", help="run folder")
    parser.add_argument("--metrics", metavar="NAMES", help="of samples, instead of what the run measures: fid, kid, is"
                        " (with published Inception weights; frechet, kernel, inception_score with any network),"
                        " precision, recall, density, coverage, ndb, ms_ssim, sifid, ppl_zfull, ppl_zend, ppl_wfull,"
                        " ppl_wend")
    parser.add_argument("--config.task.evaluation.KEY", metavar="VALUE", dest="_overrides", help="how: network, path"
                        " (of its weights), resize, n, n_real, batch, lpips_trunk, lpips_heads, settings.k and so on")
    parser.add_argument("--snapshot", help=common.SNAPSHOT)


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints a line per metric.

    Raises:
      UserError: there is nothing to measure.
    """
    from genjax.core import report, snapshot
    from genjax.errors import UserError
    from genjax.viz.report import number

    chosen = [f"task.evaluation.metrics={args.metrics}"] if args.metrics else []
    with waiting("evaluating"):
        row = snapshot.evaluate(args.run, args.snapshot, [*chosen, *overrides])
    if row.keys() <= {"step"}:
        can = "evaluation" in snapshot.OpenedRun(args.run).config.task
        fix = "; add --metrics NAMES, e.g. --metrics fid (see eval --help)" if can else ": its task has no metrics"
        raise UserError(f"{args.run} measures nothing{fix}")
    report.write(args.run)
    if args.json != "-":
        print("\n".join(f"{k:24} {number(v)}" for k, v in row.items()))
    common.write_json(args.json, row)
    return 0
