"""Every figure draws at smoke scale and goes on with its runs; expected tables, matching of names, judging of rows."""

import json
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.dip import _tables, architectures, denoise_table, inpaint_table, sr_table
from experiments.dip._tables import Baseline, Run
from experiments.dip._targets import TARGETS, FourTargets
from genjax.core import config, figure, inspect
from genjax.core import train as train_lib
from genjax.core.checkpoint import save_snapshot
from genjax.core.experiment import Programs
from genjax.core.figure import FigureRun
from genjax.core.run import RunFolder
from genjax.data.images import load_image, save_image
from genjax.data.restoration import RestorationSet
from genjax.errors import UserError
from genjax.metrics.image import psnr

ANALYTIC = {"data/scenes", "gan/dirac", "gan/gradients"}  # computed, nothing is trained
KEYS = {"case", "metric", "got", "expected", "tolerance", "pass", "source"}


@pytest.fixture
def quick_compilation():
    """Random bits by XLA's own generator: a network's fifty threefry draws take half of a smoke run's compilation."""
    before = jax.config.jax_default_prng_impl
    jax.config.update("jax_default_prng_impl", "rbg")
    yield
    jax.config.update("jax_default_prng_impl", before)


# The faults' instruments, and two of the faults, are tested by themselves in test_reliability.
SLOW = ("reliability/faults",)


@pytest.mark.alone
@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n
                                  for n in inspect.figures()])
def test_figure_at_smoke_scale(name, tmp_path, monkeypatch):
    fig = figure.reproduce(name, "smoke", str(tmp_path), None, quiet=True)
    assert fig.passed and fig.rows
    for row in fig.rows:
        assert set(row) >= KEYS and row["pass"] is None and row["case"] and row["metric"]
        assert math.isfinite(row["got"]) and (row["expected"] is None or math.isfinite(row["expected"]))
        assert row["expected"] is None or row["source"]
    kept = json.loads((tmp_path / "figure.json").read_text())
    assert kept["figure"] == name and kept["scale"] == "smoke" and kept["rows"] == fig.rows
    pictures = sorted(tmp_path.glob("*.png"))
    page = (tmp_path / "report.html").read_text()
    assert pictures and page.count("data:image/png") == len(pictures)
    for path in pictures:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert min(pixels.shape[:2]) >= 100 and pixels.std() > 10, path
    runs = list((tmp_path / "runs").glob("*"))
    assert bool(runs) == (name not in ANALYTIC) and all((run / "DONE").exists() for run in runs)

    # The second call finds every run done, trains nothing, and comes to the same rows.
    monkeypatch.setattr(train_lib._Loop, "run", lambda self: pytest.fail(f"{self.folder.path} was trained again"))
    again = figure.reproduce(name, "smoke", str(tmp_path), None, quiet=True)
    assert again.rows == fig.rows and len(list((tmp_path / "runs").glob("*"))) == len(runs)


# ---------------------------------------------------------------- rows


def rows_of(scale, *args, **kwargs):
    fig = FigureRun("x/y", scale, None, None, True)
    fig.row("case", "metric", *args, **kwargs)
    return fig


@pytest.mark.parametrize(("relation", "got", "ok"), [
    ("within", 30.4, True), ("within", 30.6, False), ("within", 29.4, False), ("within", math.nan, False),
    ("at_least", 29.6, True), ("at_least", 29.4, False), ("at_least", 99.0, True), ("at_least", math.inf, False),
    ("at_most", 30.4, True), ("at_most", 30.6, False), ("at_most", -5.0, True)])
def test_relation(relation, got, ok):
    fig = rows_of("small", got, 30.0, 0.5, relation=relation)
    assert fig.rows[0]["pass"] is ok and fig.passed is ok


def test_what_is_not_judged():
    for fig in (rows_of("smoke", 0.0, 30.0), rows_of("paper", 0.0, 30.0, judge=False), rows_of("paper", 0.0, None)):
        assert fig.rows[0]["pass"] is None and fig.passed


def test_a_signal_ends_a_figure_with_the_code_that_says_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(train_lib, "train", lambda *a, **k: train_lib.Outcome(None, 7, True, {}, 1.0))
    with pytest.raises(train_lib.Preempted, match="case: interrupted and saved at step 7"):
        FigureRun("x/y", "smoke", tmp_path, None, True).train("case", "dip/denoise")


def test_own_pictures_get_a_folder_of_their_own(tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    body = '\n\n\ndef run(fig, data=""):\n    fig.row("a", "b", 1.0, None)\n'
    (tmp_path / "toy" / "fig.py").write_text(f'"""Toy."""\nIMAGES = True{body}')
    (tmp_path / "toy" / "deaf.py").write_text(f'"""Toy."""{body}')
    save_image(tmp_path / "my photo.png", np.zeros((8, 8, 3)))
    monkeypatch.setattr(inspect, "EXPERIMENTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    for images, folder in ((None, "toy-fig-small"), ("my photo.png", "toy-fig-small-my_photo")):
        fig = figure.reproduce("toy/fig", "small", None, images, quiet=True)
        assert fig.workdir.name == folder and (fig.workdir / "figure.json").exists()
    with pytest.raises(UserError, match=r"toy/deaf does not read --images; leave it away \(its arguments: data\)"):
        figure.reproduce("toy/deaf", "small", None, "my photo.png", quiet=True)
    assert not (tmp_path / "runs" / "figures" / "toy-deaf-small-my_photo").exists()


@pytest.mark.parametrize("name", inspect.figures())
def test_what_reads_own_pictures_says_so(name):
    source = (inspect.EXPERIMENTS / f"{name}.py").read_text()
    reads = any(t in source for t in ("fig.images", "fig.source()", "one_picture(fig", "= pictures(fig"))
    assert figure.load_figure(name)[1] == reads


def test_own_pictures_as_the_data_of_a_run(tmp_path):
    save_image(tmp_path / "a.png", np.zeros((8, 8, 3)))

    def source(images):
        return FigureRun("x/y", "small", None, images, True).source()

    assert source(None) == [] and source("builtin:photos") == ["data.source=builtin:photos"]
    assert source(str(tmp_path)) == [f"data.source=folder:{tmp_path}"]
    with pytest.raises(UserError, match="is one file; give a folder of pictures, builtin:photos"):
        source(str(tmp_path / "a.png"))


# ---------------------------------------------------------------- the paper's numbers


@pytest.mark.parametrize(("values", "names", "average"), [  # averages as published, to 0.02 for their own rounding
    (sr_table.PAPER[4]["bicubic"], sr_table.SET5, 28.44), (sr_table.PAPER[4]["bicubic"], sr_table.SET14, 26.05),
    (sr_table.PAPER[4]["DIP"], sr_table.SET5, 29.90), (sr_table.PAPER[4]["DIP"], sr_table.SET14, 27.01),
    (sr_table.PAPER[4]["no prior"], sr_table.SET5, 26.56), (sr_table.PAPER[4]["TV"], sr_table.SET5, 28.86),
    (sr_table.PAPER[8]["bicubic"], sr_table.SET5, 24.37), (sr_table.PAPER[8]["DIP"], sr_table.SET5, 25.89),
    (denoise_table.PAPER[25]["noisy"], denoise_table.NAMES, 20.37),
    (denoise_table.PAPER[25]["NLM"], denoise_table.NAMES, 30.23),
    (denoise_table.PAPER[25]["DIP"], denoise_table.NAMES, 31.29),
    (denoise_table.PAPER[50]["DIP"], denoise_table.NAMES, 27.69),
    (inpaint_table.NEAREST, inpaint_table.NAMES, 27.50), (inpaint_table.DIP, inpaint_table.NAMES, 33.44)])
def test_expected_numbers_average_to_the_published_ones(values, names, average):
    assert np.mean([values[n] for n in names]) == pytest.approx(average, abs=0.02)


@pytest.mark.parametrize(("table", "name", "found"), [
    (sr_table, "butterfly", "butterfly"), (sr_table, "Butterfly_GT", "butterfly"), (sr_table, "lena", "lenna"),
    (sr_table, "ppt3", "ppt3"), (sr_table, "astronaut", ""), (sr_table, "birdhouse", ""), (sr_table, "512", ""),
    (denoise_table, "House", "hill"), (denoise_table, "hill", "hill"), (denoise_table, "F16_GT", "F16"),
    (denoise_table, "Lena512color", "lena"), (denoise_table, "kodim01", "kodim01"), (denoise_table, "kodim04", ""),
    (inpaint_table, "Cameraman256_GT", "C.man"), (inpaint_table, "man", "man"), (inpaint_table, "camera", ""),
    (inpaint_table, "fingerprint", "finger"), (inpaint_table, "peppers256", "peppers"), (inpaint_table, "01", "")])
def test_paper_name(table, name, found):
    known = (*sr_table.SET5, *sr_table.SET14) if table is sr_table else table.NAMES
    assert _tables.paper_name(name, known, table.ALIASES) == found


def test_aliases_lead_to_names_of_the_paper():
    assert set(sr_table.ALIASES.values()) <= set(sr_table.SET14)
    assert set(denoise_table.ALIASES.values()) <= set(denoise_table.NAMES)
    assert set(inpaint_table.ALIASES.values()) | set(inpaint_table.SET12.values()) <= set(inpaint_table.NAMES)


# ---------------------------------------------------------------- tables, without training


class Stub(FigureRun):
    """Trains nothing: a run's `last` output is the truth plus an error of 0.1 (20 dB), `ema` of 0.01 (40 dB)."""

    def train(self, case, config, overrides=()):
        self.cases = [*getattr(self, "cases", []), (case, config, overrides)]
        items = dict(o.split("=", 1) for o in overrides)
        data = RestorationSet(images=items["image"], problem="denoise", sigma=25, crop_multiple=8)
        clean = data.batch(0)["clean"]
        task = SimpleNamespace(outputs=lambda variables: {"last": clean + 0.1, "ema": clean + 0.01})
        return SimpleNamespace(experiment=SimpleNamespace(data=data, task=task), variables={})


def table(tmp_path, scale, names, expected=None, **kwargs):
    folder = tmp_path / "pictures"
    for i, name in enumerate(names):
        save_image(folder / name, np.random.default_rng(i).uniform(0.3, 0.6, (16, 16, 3)))
    fig = Stub("x/y", scale, tmp_path / "out", str(folder), True)
    expected = {"bird": 20.5, "baby": 19.8} if expected is None else expected
    found = _tables.pictures(fig, ("astronaut",), expected)
    methods = (Baseline("noisy", "observed", {"bird": 20.4}),
               Run("DIP", "dip/denoise:sigma=25", {"DIP": "last", "DIP, averaged": "ema"}, (), expected, 1.0))
    _tables.draw(fig, "toy", found, methods, score=psnr, metric="PSNR [dB]", source="somewhere", title="Toy",
                 **{"beat": ("DIP, averaged", "DIP", 0.0), **kwargs})
    return fig, {r["case"]: r for r in fig.rows}


def test_table_at_paper_scale(tmp_path):
    fig, rows = table(tmp_path, "paper", ["bird_GT.png", "baby.png"])
    assert [c[0] for c in fig.cases] == ["toy DIP baby", "toy DIP bird_GT"]  # each alone, in the folder's order
    assert all(c[1] == "dip/denoise:sigma=25" for c in fig.cases)
    assert rows["bird_GT, DIP"]["got"] == pytest.approx(20.0, abs=1e-3) and rows["bird_GT, DIP"]["expected"] == 20.5
    assert rows["bird_GT, DIP"]["pass"] is True and rows["bird_GT, DIP, averaged"]["expected"] is None
    assert rows["bird_GT, noisy"]["expected"] == 20.4 and rows["bird_GT, noisy"]["pass"] is None  # no tolerance
    assert rows["average of 2, DIP"]["expected"] == pytest.approx(20.15) and rows["average of 2, DIP"]["pass"] is True
    assert rows["average of 2, noisy"]["expected"] is None  # the paper lacks one
    assert rows["Toy: DIP, averaged against DIP"]["got"] == pytest.approx(40.0, abs=1e-3) and fig.passed
    assert np.asarray(Image.open(fig.workdir / "toy.png")).std() > 10


def test_table_fails_where_it_should(tmp_path):
    fig, rows = table(tmp_path, "paper", ["bird.png", "baby.png"], {"bird": 22.0, "baby": 20.0})
    assert rows["bird, DIP"]["pass"] is False and rows["baby, DIP"]["pass"] is True and not fig.passed
    fig, rows = table(tmp_path, "small", ["bird.png"], beat=("DIP", "DIP, averaged", 0.0))
    assert rows["Toy: DIP against DIP, averaged"]["pass"] is False and not fig.passed


def test_the_papers_average_is_judged_for_the_whole_set_only(tmp_path):
    average = {"paper_average": (25.0, 0.5, "the text")}
    _, rows = table(tmp_path / "some", "paper", ["bird.png"], **average)
    assert rows["average of 1, DIP"]["expected"] == 20.5 and rows["average of 1, DIP"]["pass"] is None
    _, rows = table(tmp_path / "all", "paper", ["bird.png", "baby.png"], **average)
    assert rows["average of 2, DIP"]["pass"] is False and rows["average of 2, DIP"]["source"] == "the text"


def test_table_at_small_scale_trains_together_and_judges_no_paper_number(tmp_path):
    fig, rows = table(tmp_path, "small", ["bird.png", "baby.png", "c.png", "d.png", "e.png", "comma,.png"])
    assert [o[0].count(",") for _, _, o in fig.cases] == [3, 0, 1]  # four, one, and the one that cannot be listed
    assert all(config == "dip/denoise:sigma=25,small" for _, config, _ in fig.cases)
    assert len({case for case, _, _ in fig.cases}) == 3
    assert rows["bird, DIP"]["expected"] == 20.5 and rows["bird, DIP"]["pass"] is None
    assert rows["average of 6, DIP"]["expected"] is None


def test_pictures_of_one_name_stay_apart(tmp_path):
    for folder in ("a", "b"):
        save_image(tmp_path / folder / "bird.png", np.zeros((8, 8, 3)))
    found = _tables.pictures(FigureRun("x/y", "small", tmp_path, str(tmp_path), True), (), ["bird"])
    assert [p.name for p in found] == ["bird", "bird-2"] and {p.known for p in found} == {"bird"}


def test_baselines_are_kept_until_what_they_depend_on_changes(tmp_path, monkeypatch):
    fig = FigureRun("x/y", "small", tmp_path, None, True)
    data = RestorationSet(size=16, crop_multiple=1)
    arrays = {k: v[0] for k, v in data.batch(0).items()}
    first = _tables.baseline(fig, "tv", data, arrays)
    monkeypatch.setattr(_tables.baselines, "run", lambda *a, **k: pytest.fail("computed again"))
    assert (_tables.baseline(fig, "tv", data, arrays) == first).all()
    monkeypatch.setattr(_tables.baselines, "run", lambda *a, **k: np.zeros((16, 16, 3), np.float32))
    changed = {**arrays, "observed": arrays["observed"] + 1e-6}
    assert not _tables.baseline(fig, "tv", data, changed).any() and not _tables.baseline(fig, "nlm", data, arrays).any()


# ---------------------------------------------------------------- single figures


def test_four_targets():
    data = FourTargets(size=32, crop_multiple=1)
    batch = data.batch(0)
    image, noisy, shuffled, noise = batch["observed"]
    assert data.names == TARGETS and data.batch_size == len(data) == 4 and "clean" not in batch
    assert {k: v.shape for k, v in batch.items()} == {"observed": (4, 32, 32, 3), "mask": (4, 32, 32, 1)}
    assert {k: s.shape for k, s in data.element_spec.items()} == {k: v.shape for k, v in batch.items()}
    expected = RestorationSet(size=32, crop_multiple=1).batch(0)
    assert (image == expected["clean"][0]).all() and (noisy == expected["observed"][0]).all()
    rows = {tuple(p) for p in image.reshape(-1, 3)}
    assert all(tuple(p) in rows for p in shuffled.reshape(-1, 3))  # whole pixels move
    assert np.sort(image, axis=None).tolist() == np.sort(shuffled, axis=None).tolist()
    assert abs(np.corrcoef(image.ravel(), shuffled.ravel())[0, 1]) < 0.2
    assert noise.var() == pytest.approx(1 / 12, rel=0.1) and batch["mask"].all()
    assert not np.allclose(image * 255, np.round(image * 255))  # nothing was rounded to 8 bits on the way


def test_mask_beside(tmp_path):
    for name in ("a.jpg", "a_mask.png", "b.jpg", "b_mask.jpg", "c.png"):
        save_image(tmp_path / name, np.ones((8, 8, 3)))
    assert architectures.mask_beside(str(tmp_path / "a.jpg")) == str(tmp_path / "a_mask.png")
    assert architectures.mask_beside(str(tmp_path / "b.jpg")) == str(tmp_path / "b_mask.jpg")
    assert architectures.mask_beside(str(tmp_path / "c.png")) is None
    assert architectures.mask_beside("builtin:photos/astronaut") is None


@pytest.mark.parametrize("name", ["dip/architectures", "dip/impedance", "dip/progress"])
def test_one_picture_figures_refuse_a_folder(name, tmp_path):
    save_image(tmp_path / "a.png", load_image("builtin:photos/astronaut")[:32, :32])
    with pytest.raises(UserError, match="is a folder; name a file in it"):
        figure.reproduce(name, "smoke", str(tmp_path / "out"), str(tmp_path), quiet=True)


@pytest.mark.usefixtures("quick_compilation")
def test_dcgan_draws_a_run_of_ones_own(tmp_path):
    config_ = config.smoke(config.load("gan/dcgan:small,res=8,cond"))
    experiment, own = config.build(config_), RunFolder(tmp_path / "own")
    own.create(config_)
    state = jax.jit(lambda: experiment.task.init(jax.random.key(0), experiment.data.element_spec))()
    save_snapshot(own.snapshots / "step_00000000.npz", experiment.task.export(state), {"step": 0})
    fig = figure.reproduce(f"gan/dcgan:given={tmp_path / 'own'}", "smoke", str(tmp_path / "out"), None, quiet=True)
    assert {p.stem for p in (tmp_path / "out").glob("*.png")} == {"samples", "walk", "neighbours", "arithmetic", "turn"}
    assert fig.passed and not (tmp_path / "out" / "runs").exists() and "of class 0" in " ".join(fig._notes)
    with pytest.raises(UserError, match="nowhere"):
        figure.reproduce("gan/dcgan:given=nowhere", "smoke", str(tmp_path / "out"), None, quiet=True)


@pytest.mark.parametrize("net", architectures.NETS, ids=lambda n: n.name)
def test_architectures_fit_their_pictures(net):
    """At small scale all six accept 128 x 128 (abstractly: nothing is compiled), and they differ."""
    items = [*net.small, "image=builtin:photos/astronaut"]
    experiment = config.build(config.load(f"dip/inpaint_hole:{net.arg},small", items))
    state = Programs(experiment).abstract
    assert experiment.data.element_spec["observed"].shape == (1, 128, 128, 3)
    assert state.extra["ema"].shape == (1, 128, 128, 3)
