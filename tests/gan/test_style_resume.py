"""StyleGAN2-ADA cut in the middle of everything: between penalties, between changes of p, in a ramp of the average."""

import jax
import jax.numpy as jnp
import pytest

from genjax.core import config as config_lib
from genjax.core.checkpoint import Checkpoints, digest
from genjax.core.experiment import Programs

STEPS, CUTS = 11, (5, 6)
# The smoke form's networks with the whole pipe, strong enough to do everything to some picture; R1 at 0, 3, 6, 9, path
# lengths at even steps, p after 4 and 8.
ITEMS = ["task.augment.name=bgc", "task.augment_p=0.6", "task.ada_kimg=0.2", "task.ada_every=4", "r1_every=3",
         "pl_every=2", "task.ema_rampup=0.05"]


@pytest.mark.slow
def test_a_run_cut_between_penalties_and_changes_of_p_goes_on_with_the_same_bits(tmp_path):
    """And one that lost any of p, the signs counted so far, the mean path length, w_avg or the average does not."""
    config = config_lib.override(config_lib.smoke(config_lib.load("gan/stylegan2:small")), ITEMS)
    programs = Programs(config_lib.build(config))

    def run(state, first, last):
        rows = []
        for i in range(first, last):
            state, metrics = programs.step(state, programs.put(i, 1), 1)
            rows.append({k: float(v[0]) for k, v in metrics.items()})
        return state, rows

    state, rows, at = programs.init(), [], 0
    for cut in (*CUTS, STEPS):
        state, more = run(state, at, cut)
        rows, at = rows + more, cut
        saver = Checkpoints(tmp_path / str(cut), 1)
        saver.save(state)
        saver.close()
    want = digest(state)
    assert [r["r1_penalty"] > 0 for r in rows] == [i % 3 == 0 for i in range(STEPS)]
    assert [r["pl_penalty"] > 0 for r in rows] == [i % 2 == 0 for i in range(STEPS)]
    p = [r["augment_p"] for r in rows]
    assert len(set(p[:3])) == len(set(p[3:7])) == len(set(p[7:])) == 1 and len({p[0], p[3], p[7]}) > 1 and min(p) > 0

    def again(cut, damage=lambda state: state):
        saver = Checkpoints(tmp_path / str(cut), 1)
        restored = saver.restore(programs.abstract)
        saver.close()
        assert int(restored.step) == cut and float(restored.extra["augment"]["signs"]) != 0
        end, found = run(damage(restored), cut, STEPS)
        return digest(end) == want and found == rows[cut:]

    assert all(again(cut) for cut in CUTS)

    def with_other(value, *path):
        def damage(state):
            extra = jax.tree_util.tree_map_with_path(
                lambda k, x: jnp.full_like(x, value) if [e.key for e in k][-len(path):] == list(path) else x,
                state.extra)
            return state.replace(extra=extra)
        return damage

    for path in (("augment", "p"), ("path_length",), ("mapping", "w_avg")):
        assert not again(5, with_other(0.0, *path)), path
    assert not all(again(5, with_other(signs, "augment", "signs")) for signs in (-4.0, 4.0)), "p goes by them"
    assert not again(5, lambda s: s.replace(ema=jax.tree.map(jnp.array, s.params["generator"])))
