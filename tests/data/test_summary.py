"""The one line of what was read: every kind of data has it, and a run logs, keeps and reports it."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from genjax.core import report
from genjax.core import train as train_lib
from genjax.core.config import experiment, finalize, node
from genjax.data.growing import GrowingPipeline, GrowthSchedule
from genjax.data.mixtures import Ring
from genjax.data.pipeline import Pipeline
from genjax.data.restoration import RestorationSet
from genjax.data.scenes import Scenes
from genjax.data.sources import listing, open_source
from genjax.data.summary import Summary, summarize
from tests.core.toy import ToyData


@dataclasses.dataclass(frozen=True, kw_only=True)
class DescribedData(ToyData):
    """The toy's data, which says what it is."""

    def summary(self):
        """As any data set's."""
        return Summary(count=64, classes=(("even", 30), ("odd", 34)), place="/nowhere", notes=("a <toy>",))


def test_a_run_says_what_it_reads_in_log_folder_and_report(tmp_path):
    config = finalize(experiment(
        task=node("tests.core.toy.ToyTask", optimizer="@optimizer"),
        data=node("tests.data.test_summary.DescribedData"),
        optimizer=node("genjax.core.optim.adam", learning_rate=0.01),
        train=node("genjax.core.experiment.TrainOptions", steps=1)))
    train_lib.train(config, tmp_path / "run", quiet=True)
    line = "64 pictures, 2 classes (even: 30, odd: 34), from /nowhere; a <toy>"
    assert (tmp_path / "run" / "log.txt").read_text().count(f"data: {line}\n") == 1
    assert json.loads((tmp_path / "run" / "data.json").read_text())["line"] == line
    assert line.replace("<toy>", "&lt;toy&gt;") in report.write(tmp_path / "run").read_text()
    (tmp_path / "run" / "data.json").unlink()  # a run of before
    assert "/nowhere" not in report.write(tmp_path / "run").read_text()


@pytest.mark.parametrize("data, line", [
    (lambda: Pipeline("builtin:digits", "train[:9]", image_size=16),  # a class without pictures is one all the same
     "9 pictures of 8x8, 10 classes (0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1, 9: 0), split train[:9], from"
     " builtin:digits; resampled to 16x16"),
    (lambda: GrowingPipeline(GrowthSchedule(resolution=8, stable_kimg=0.1, fade_kimg=0.1)),
     "1500 pictures of 8x8, 10 classes (0: 151"),
    (lambda: Ring(modes=3), "50000 points an epoch, from a ring of 3 Gaussians, seed 0"),
    (lambda: Scenes("rooms", image_size=16), "10000 scenes an epoch of 16x16, 3 classes (living room, bedroom"),
    (lambda: open_source("builtin:scenes/one", "test", size=8, count=5), "5 scenes of 8x8, "),
    (lambda: open_source("builtin:photos", "all", crops=128), "296 pictures of 128x128, 12 classes (astronaut: 16, "),
    (ToyData, "64 elements, from ToyData")])
def test_every_kind_of_data_has_a_line(data, line):
    found = summarize(data())
    assert found.line().startswith(line), found.line()
    assert json.loads(json.dumps(found.to_dict()))["line"] == found.line() and "\n" not in found.line()
    assert listing(data())


def test_pictures_to_restore(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / f"{name}.png")
    Image.fromarray(np.arange(2000).reshape(40, 50) % 3 > 0).save(tmp_path / "m.png")
    data = RestorationSet(str(tmp_path), "denoise")
    assert summarize(data).line().startswith("3 pictures to restore of 40x50 (height x width), from ")
    data = RestorationSet(f"{tmp_path}/a.png,{tmp_path}/b.png", "inpaint", mask=f"{tmp_path}/m.png", clean=False)
    line = summarize(data).line()
    assert f"from {tmp_path}/a.png, {tmp_path}/b.png; kept whole; the hole is what is black in m.png, 33.4%" in line
    assert [n for n, _ in listing(data)] == ["a.png", "b.png", "m.png"]
