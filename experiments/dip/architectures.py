"""Deep Image Prior, figure 8: a large hole filled by hourglasses of depth 2, 4 and 6, with skips, U-Net and ResNet.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, section 3.3: for large holes deep networks help and skip connections hurt.
The paper's picture is library.jpg, whose hole removes something: what belongs there is not known, so PSNR in the hole
is no measure of quality; look at the sheet. `--images PICTURE` takes a picture of your own, with PICTURE_mask.png
beside it (white = known) if there is one, else a quarter of it as the hole.
"""

import dataclasses
from pathlib import Path

import numpy as np

from experiments.dip._tables import one_picture
from genjax.core.figure import FigureRun
from genjax.metrics.image import psnr
from genjax.viz.grid import Panel, sheet

IMAGES = True  # --images is read


@dataclasses.dataclass(frozen=True)
class Net:
    """One panel: its name, the structural argument of configs/dip/inpaint_hole.py, overrides of the small scale."""

    name: str
    arg: str
    small: tuple[str, ...] = ()


# 128 pixels halve six times to 2, where a 5x5 kernel has nothing to reflect.
NARROW = ("task.network.kernel_down=3",)
NETS = (
    Net("hourglass, depth 2", "network=hourglass,depth=2", NARROW),
    Net("hourglass, depth 4", "network=hourglass,depth=4", NARROW),
    Net("hourglass, depth 6", "network=hourglass,depth=6", NARROW),
    Net("skips, depth 6", "network=skip,depth=6", NARROW),
    Net("U-Net", "network=unet"),
    Net("ResNet", "network=resnet"),
)
STEPS = 600  # of the small scale
SMOKE = (NETS[0], NETS[2])  # one and the same network in its smoke form: compiled once


def mask_beside(picture: str) -> str | None:
    """PICTURE_mask.png (or another suffix) in the same folder, or None."""
    if picture.startswith("builtin:"):
        return None
    path = Path(picture)
    for suffix in dict.fromkeys((".png", path.suffix)):
        if (file := path.with_name(f"{path.stem}_mask{suffix}")).is_file():
            return str(file)
    return None


def run(fig: FigureRun) -> None:
    """Fills the hole by each network and draws them beside each other."""
    nets = fig.by_scale(SMOKE, NETS, NETS)
    fig.plan(len(nets))
    picture = one_picture(fig, "builtin:photos/astronaut")
    mask = mask_beside(picture)
    common = [f"image={picture}", "data.crop_multiple=64"] + ([f"mask={mask}"] if mask else [])
    panels, whole = [], {}
    for net in nets:
        small = fig.scale != "paper"
        steps = [f"train.steps={STEPS}"] if small else []
        overrides = [*common, *steps, *(net.small if fig.scale == "small" else ())]
        result = fig.train(net.name, f"dip/inpaint_hole:{net.arg}" + (",small" if small else ""), overrides)
        batch = {k: v[0] for k, v in result.experiment.data.batch(0).items()}
        # The average over the last hundred outputs or so: a single one may fall on one of Adam's spikes.
        filled = result.experiment.task.outputs(result.variables)["ema"][0]
        clean, known = batch["clean"], batch["mask"]
        parts = {"known": known, "hole": 1 - known, "all": np.ones_like(known)}
        found = {k: float(psnr(filled, clean, mask=m)) for k, m in parts.items()}
        for part, value in found.items():
            fig.row(net.name, f"PSNR [dB], {part}", value, None)
        whole[net.name] = found
        panels.append(Panel(filled, net.name, "known {known:.1f}, hole {hole:.1f}, all {all:.1f} dB".format(**found)))
    black = float(psnr(batch["observed"], clean))
    fig.row("hourglass, depth 6", "PSNR [dB], all", whole["hourglass, depth 6"]["all"], black + 3, relation="at_least",
            source="the picture with the hole left black, measured here, plus 3 dB")
    for other in ("hourglass, depth 2", "skips, depth 6"):
        if other in whole:
            fig.row(f"hourglass, depth 6 against {other}", "PSNR [dB], hole", whole["hourglass, depth 6"]["hole"],
                    whole[other]["hole"], relation="at_least", judge=False, source="figure 8, a claim about looks")
    first = [Panel(clean, "truth"), Panel(batch["observed"], "observed", f"all {black:.1f} dB")]
    fig.picture("architectures", sheet([first + panels[:2], panels[2:]], panel_height=fig.by_scale(128, 256, 384)),
                "A large hole, filled by six architectures")
    if fig.scale != "paper":
        fig.note(f"Below paper scale: 128 x 128 pixels, 3x3 instead of 5x5 kernels on the way down, {STEPS} of 3001 "
                 "iterations (U-Net and ResNet, whose learning rate is a tenth, have hardly begun by then).")
