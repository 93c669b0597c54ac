"""GIRAFFE (Niemeyer and Geiger, CVPR 2021): scenes as composed feature fields, at the settings of the authors' code.

    data      boxes  scale    centre x, y     turn       fov    elevation     pictures    with the authors at
    two       2      .17      +-.7, +-.7      1          49.13  19.5                      (scenes of the ray tracer)
    cars      1      .2-.25   +-.22, +-.12    1          17     2.3 to 11.5               (scenes of the ray tracer)
    compcars  1      .2-.25   +-.22, +-.12    1          10     0 to 9.6      random      64, 256
    cats      1      .21      0               .40-.60    10     0 to 9.6      squashed    64
    celeba    1      .21      0               .40-.60    10     0 to 9.6      middle 108  64
    celebahq  1      .21      0               .375-.625  10     0 to 9.6      middle 650  256
    ffhq      1      .21      0               .40-.60    10     0 to 9.6      squashed    256
    chairs    1      .5       0               1          49.13  0 to 64       squashed    64
    church    1      .45-.55  +-.15, +-.15    1          30     0, turned bg  squashed    64, 256
    clevr2    2      .17      +-.713, +-.713  0          49.13  19.5          squashed    256
    clevr2345 5      .17      +-.71, +-.71    0          49.13  19.5, 2 to 5  squashed    256

Pictures that are no squares: the shorter side is resampled and a square cut at a random place (random), the sides are
resampled each by its own factor (squashed), or the middle square of so many pixels is taken first; bilinearly all.

    python launch.py train --config fields/giraffe:small                        # two objects of the ray tracer
    python launch.py train --config fields/giraffe:data=compcars --config.data.source=folder:comprehensive_cars/images
    python launch.py train --config fields/giraffe:data=celeba --config.data.source=folder:img_align_celeba
    python launch.py sample runs/giraffe --control object_rotation

Without a source the scenes of the ray tracer stand in: two, cars, one, two_to_five (for faces as large as the middle
that is taken: --config.data.center_crop=0 draws them small). CLEVR's places, which the authors read from a file, are
drawn without collisions. There is no fixed length: the authors train one to four days on one GPU and publish the
snapshot of the best FID; here, with features=, it is measured as often as theirs (every 10,000 steps, cats 5,000) and
the best snapshot kept in snapshots/best.npz. Expected (theirs, 20k samples): 64 x 64 cats 8, celeba 6, cars 16,
chairs 20, church 17; 256: celebahq 21, ffhq 32 (43 in a retraining), cars 26, church 30, clevr2 31.
"""

from configs.gan._base import evaluation
from genjax.core.config import experiment, node, parse_arg
from genjax.errors import UserError, unknown

TURN, FACE = (0.0, 1.0), (0.40278, 0.59722)
LOW = (0.41667, 0.5)  # elevations from 9.59 degrees to the horizon
# boxes, smallest and largest scale, centre's half range (x, y) and height, turn, fov, v, scenes that stand in
DATA = {
    "two": (2, (0.17,) * 3, (0.17,) * 3, (0.7, 0.7), 0.17, TURN, 49.13, (1 / 3, 1 / 3), "two"),
    "cars": (1, (0.2, 0.16, 0.16), (0.25, 0.2, 0.2), (0.22, 0.12), 0.0, TURN, 17.0, (0.40, 0.48), "cars"),
    "compcars": (1, (0.2, 0.16, 0.16), (0.25, 0.2, 0.2), (0.22, 0.12), 0.0, TURN, 10.0, LOW, "cars"),
    "cats": (1, (0.21,) * 3, (0.21,) * 3, (0.0, 0.0), 0.0, FACE, 10.0, LOW, "one"),
    "celeba": (1, (0.21,) * 3, (0.21,) * 3, (0.0, 0.0), 0.0, FACE, 10.0, LOW, "one"),
    "celebahq": (1, (0.21,) * 3, (0.21,) * 3, (0.0, 0.0), 0.0, (0.375, 0.625), 10.0, LOW, "one"),
    "ffhq": (1, (0.21,) * 3, (0.21,) * 3, (0.0, 0.0), 0.0, FACE, 10.0, LOW, "one"),
    "chairs": (1, (0.5,) * 3, (0.5,) * 3, (0.0, 0.0), 0.0, TURN, 49.13, (0.05, 0.5), "one"),
    "church": (1, (0.45,) * 3, (0.55,) * 3, (0.15, 0.15), 0.0, TURN, 30.0, (0.5, 0.5), "one"),
    "clevr2": (2, (0.17,) * 3, (0.17,) * 3, (0.713, 0.713), 0.1665, (0.0, 0.0), 49.13, (1 / 3, 1 / 3), "two"),
    "clevr2345": (5, (0.17,) * 3, (0.17,) * 3, (0.71, 0.71), 0.1665, (0.0, 0.0), 49.13, (1 / 3, 1 / 3), "two_to_five"),
}
# How pictures that are no squares become squares; those of the others are squashed. Our own scenes are squares.
LOADED = {"two": {}, "cars": {}, "compcars": {"fit": "random", "resample": "bilinear"}, **{
    data: {"center_crop": side, "resample": "bilinear"} for data, side in (("celeba", 108), ("celebahq", 650))}}
SQUASHED = {"fit": "squash", "resample": "bilinear"}
EXISTENCE = (0.0, 0.19456788, 0.24355003, 0.25269547, 0.30918661)


def get_config(arg: str = ""):
    """Structural arguments: data (see above), res (64, 256; small: 32), small (minutes on a CPU: narrower networks,
    Adam, fewer samples in a shorter space), bf16 (all networks calculate in bfloat16; parameters, encodings, densities
    and pictures stay float32), features (a network for Frechet distances)."""
    a = parse_arg(arg, data="two", res=0, small=False, bf16=False, features="")
    if a.data not in DATA:
        raise unknown("data", a.data, DATA)
    size = a.res or (32 if a.small else 64)
    if size < 32 or size & (size - 1):
        raise UserError(f"res={a.res}: GIRAFFE makes pictures whose side is a power of two, at least 32")
    boxes, small, large, (x, y), height, turn, fov, v, scenes = DATA[a.data]
    wide = 256 if size >= 256 and a.data != "clevr2345" else 128
    hidden, back, code, back_code = (64, 32, 64, 32) if a.data == "clevr2345" else (128, 64, 256, 128)
    if a.small:
        hidden, back, wide, code, back_code = 64, 32, 64, 64, 32
    adam = {"target": "genjax.core.optim.adam", "b1": 0.0, "b2": 0.99}
    g_rate = 2.5e-4 if size >= 256 and a.data != "clevr2345" else 5e-4
    # At the authors' rates, R1 and noise, 250 steps at 32 x 32 leave both losses at log 2 and grey pictures.
    march = {"samples": 16, "near": 1.2, "far": 4.4, "noise": 0.0} if a.small else {}
    dtype = "bfloat16" if a.bf16 else "float32"
    field = {"target": "genjax.fields.decoder.FeatureField", "features": wide, "dtype": dtype}
    return experiment(
        task=node("genjax.fields.task.Giraffe",
                  generator=node("genjax.fields.giraffe.Generator", size=size, **march,
                                 decoder=node(**field, hidden=hidden),
                                 background=node(**field, hidden=back, blocks=4, skips=(), downscale=12.0),
                                 renderer=node("genjax.fields.renderer.NeuralRenderer", size=size, features=wide,
                                                dtype=dtype)),
                  discriminator=node("genjax.fields.renderer.Discriminator", features=128 if a.small else 512,
                                     dtype=dtype),
                  g_optimizer="@g_optimizer", d_optimizer="@d_optimizer", code=code, background_code=back_code,
                  r1_gamma=0.5 if a.small else 10.0, ema_decay=0.99 if a.small else 0.999,
                  boxes=node("genjax.fields.boxes.BoxPrior", boxes=boxes, scale_min=small, scale_max=large,
                             centre_min=(-x, -y, height), centre_max=(x, y, height), rotation=turn,
                             padding=0.05 if boxes > 1 else -1.0,
                             existence=EXISTENCE if a.data == "clevr2345" else ()),
                  camera=node("genjax.fields.task.CameraPrior", v=v, fov=fov),
                  background_rotation=(0.0, 0.25) if a.data == "church" else (0.0, 0.0),
                  evaluation=evaluation(a.features, 20_000)),
        data=node("genjax.data.pipeline.Pipeline", source=f"builtin:scenes/{scenes}", image_size=size,
                  value_range=(0.0, 1.0), batch_size=16 if a.small else 32, flip=True,
                  **LOADED.get(a.data, SQUASHED)),
        g_optimizer=node(**adam, learning_rate=5e-4) if a.small else node(
            "genjax.core.optim.rmsprop", learning_rate=g_rate),
        d_optimizer=node(**adam, learning_rate=1e-3) if a.small else node(
            "genjax.core.optim.rmsprop", learning_rate=1e-4),
        train=node("genjax.core.experiment.TrainOptions", steps=3000 if a.small else 300_000, log_every=20,
                   save_every=500 if a.small else 5000, preview_every=500 if a.small else 5000,
                   eval_every=0 if not a.features else 5000 if a.data == "cats" else 10_000,
                   keep_best="frechet" if a.features else ""),
        smoke=("data.batch_size=2", "data.center_crop=0", "task.preview_images=4", "task.generator.samples=4",
               "task.generator.decoder.hidden=4", "task.generator.background.hidden=4",
               "task.generator.decoder.features=4", "task.generator.background.features=4",
               "task.generator.renderer.features=4", "task.generator.renderer.least=2", "task.generator.size=32",
               "task.generator.renderer.size=32", "data.image_size=32", "task.discriminator.features=8",
               "task.code=4", "task.background_code=4"),
    )
