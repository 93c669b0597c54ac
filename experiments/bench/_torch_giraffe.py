"""The authors' GIRAFFE code as the peer of `bench fields`: their networks, scenes and training step, imported from a
checkout of theirs (github.com/autonomousvision/giraffe, 2022), at the sizes of a config of ours.

Nothing of theirs is here and nothing there is changed. What has gone since 2022 is stood in for while it runs: kornia's
`filter2D`, SciPy's `as_dcm`, and on a machine without CUDA `Tensor.cuda`; so is what its networks and step do not call
(torchvision's pictures, the Inception network of its evaluation).
"""

import copy
import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from scipy.spatial.transform import Rotation
from torch.nn import functional as F


def _filter2d(x: torch.Tensor, kernel: torch.Tensor, normalized: bool = False) -> torch.Tensor:
    """Each channel of x [N,C,H,W] filtered by kernel [1,k,k], reflected at the border, as kornia's function did it."""
    if normalized:
        kernel = kernel / kernel.abs().sum()
    k = kernel.shape[-1]
    weight = kernel[:, None].expand(x.shape[1], 1, k, k)
    return F.conv2d(F.pad(x, (k // 2,) * 4, mode="reflect"), weight, groups=x.shape[1])


def _module(name: str, **names: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(names)
    return module


def load(root: Path) -> types.SimpleNamespace:
    """Their modules `generator`, `decoder`, `boxes`, `renderer`, `discriminator`, `training` and the class `Model`."""
    package = _module("im2scene.giraffe", __path__=[str(root / "im2scene/giraffe")])  # without what only its CLI needs
    stubs = {"im2scene.giraffe": package,
             "im2scene.eval": _module("im2scene.eval", calculate_activation_statistics=None,
                                      calculate_frechet_distance=None),
             "kornia": _module("kornia"), "kornia.filters": _module("kornia.filters", filter2D=_filter2d),
             "torchvision": _module("torchvision"),
             "torchvision.utils": _module("torchvision.utils", save_image=None, make_grid=None)}
    with mock.patch.dict(sys.modules, stubs), mock.patch.object(sys, "path", [str(root), *sys.path]):
        models = "im2scene.giraffe.models"
        found = {key: importlib.import_module(name) for key, name in (
            ("generator", f"{models}.generator"), ("decoder", f"{models}.decoder"),
            ("boxes", f"{models}.bounding_box_generator"), ("renderer", f"{models}.neural_renderer"),
            ("discriminator", "im2scene.discriminator.conv"), ("training", "im2scene.giraffe.training"))}
        turns = _module("turns", from_euler=lambda *a: types.SimpleNamespace(as_dcm=Rotation.from_euler(*a).as_matrix))
        for module in (found["generator"], found["boxes"], sys.modules["im2scene.camera"]):
            module.Rot = turns
        return types.SimpleNamespace(Model=importlib.import_module(models).GIRAFFE, **found)


def make(folder: Path, config: Any, device: str = "cpu") -> tuple[Callable[[], None], Callable[[], None], dict]:
    """Their training step and their rendering of a batch of scenes, at the sizes of a config of `fields/giraffe`.

    Returns:
      A step of their trainer (generator, average, discriminator with R1) on random pictures; drawing a batch of given
      scenes without noise; both wait for their device. Parameters by network.
    """
    warnings.filterwarnings("ignore", "torch.meshgrid")
    theirs, t, batch = load(folder), config.task, config.data.batch_size
    if t.boxes.existence or t.generator.composition != "sum":
        raise ValueError("existence and composition are not carried over")

    def field(f, z):
        return theirs.decoder.Decoder(
            hidden_size=f.hidden, n_blocks=f.blocks, skips=list(f.skips), n_freq_posenc=f.octaves,
            n_freq_posenc_views=f.view_octaves, z_dim=z, rgb_out_dim=f.features, downscale_p_by=f.downscale)

    class Generator(theirs.generator.Generator):
        """Their trainer calls it without a batch size."""

        def forward(self, *args, **kw):
            return super().forward(batch, *args, **kw)

    g, b, r = t.generator, t.boxes, t.generator.renderer
    boxes = theirs.boxes.BoundingBoxGenerator(
        n_boxes=b.boxes, scale_range_min=list(b.scale_min), scale_range_max=list(b.scale_max),
        translation_range_min=list(b.centre_min), translation_range_max=list(b.centre_max),
        rotation_range=list(b.rotation), check_collison=b.padding >= 0, collision_padding=b.padding)
    generator = Generator(
        device, z_dim=t.code, z_dim_bg=t.background_code, decoder=field(g.decoder, t.code),
        background_generator=field(g.background, t.background_code), bounding_box_generator=boxes,
        neural_renderer=theirs.renderer.NeuralRenderer(n_feat=r.features, input_dim=g.decoder.features,
                                                       min_feat=r.least, img_size=r.size),
        range_u=tuple(t.camera.u), range_v=tuple(t.camera.v), range_radius=tuple(t.camera.radius), fov=t.camera.fov,
        n_ray_samples=g.samples, resolution_vol=g.volume_size, depth_range=[g.near, g.far],
        backround_rotation_range=list(t.background_rotation))
    discriminator = theirs.discriminator.DCDiscriminator(n_feat=t.discriminator.features, img_size=g.size)
    model = theirs.Model(device, discriminator, generator, copy.deepcopy(generator))
    optimizers = [torch.optim.RMSprop(net.parameters(), lr=rate.learning_rate) for net, rate in (
        (generator, config.g_optimizer), (discriminator, config.d_optimizer))]
    with _without_cuda(device):
        trainer = theirs.training.Trainer(model, *optimizers, device=device)
        scene = generator.get_vis_dict(batch)
        del scene["batch_size"]
    images = {"image": torch.rand(batch, 3, g.size, g.size)}

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def step() -> None:
        with _without_cuda(device):
            trainer.train_step(images)
        wait()

    def draw() -> None:
        with torch.no_grad():
            model.generator_test(mode="val", **scene)
        wait()

    count = {name: sum(p.numel() for p in net.parameters()) for name, net in (
        ("generator", generator), ("discriminator", discriminator))}
    return step, draw, count


def _without_cuda(device):
    """Their boxes are sent to CUDA whatever the device."""
    return mock.patch.object(torch.Tensor, "cuda", lambda x: x if device == "cpu" else x.to(device))
