"""StyleGAN2-ADA's `cifar` configuration in plain PyTorch without its augmentation: the peer of rows of `bench gan`.

`_torch_stylegan2` with a discriminator without skips ("orig"), neither path lengths nor mixing, R1 of .01, and groups
of 32 for the minibatch standard deviation.
"""

from collections.abc import Callable

import torch

from experiments.bench import _torch_stylegan2 as stylegan2


class Block(stylegan2.Block):
    """Two convolutions, the second of which halves the size."""

    def __init__(self, maps: int, features: int):
        super().__init__(maps, features)
        del self.skip

    def forward(self, x):
        return stylegan2.activated(self.conv1(stylegan2.activated(self.conv0(x))))


class Training(stylegan2.Training):
    """One step of each network; with `autocast` convolutions and dense layers compute in bfloat16."""

    def __init__(self, autocast: bool = False, device: str = "cpu", r1_every: int = 16, rate: float = 0.0025,
                 **settings):
        super().__init__(gamma=0.01, r1_every=r1_every, rate=rate, pl_weight=0.0, mixing=0.0, ema_images=500_000.0,
                         device=device, **settings)
        self.d.blocks = torch.nn.Sequential(*(Block(b.conv0.weight.shape[1], b.conv1.weight.shape[0])
                                              for b in self.d.blocks))
        self.d.to(device).to(memory_format=torch.channels_last)
        self.d_adam, self.autocast = self._adam(self.d, rate, r1_every), autocast

    def step(self, real) -> None:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            super().step(real)


def make_step(batch: int, count: int = 16, device: str = "cpu", **settings) -> Callable[[], None]:
    """As `_torch_stylegan2.make_step`."""
    return stylegan2.stepping(Training(device=device, **settings), batch, count)
