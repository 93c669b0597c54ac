"""DCGAN of pytorch/examples as a plain PyTorch training step, the peer of `bench gan` and of `gan/peers`."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F


def networks(g_widths: Sequence[int], d_widths: Sequence[int], channels: int = 3,
             latent: int = 100) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator for pictures of side 4 * 2^len(widths)."""
    g: list[nn.Module] = [nn.ConvTranspose2d(latent, g_widths[0], 4, 1, 0, bias=False), nn.BatchNorm2d(g_widths[0]),
                          nn.ReLU(True)]
    for a, b in zip(g_widths[:-1], g_widths[1:], strict=True):
        g += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]
    g += [nn.ConvTranspose2d(g_widths[-1], channels, 4, 2, 1, bias=False), nn.Tanh()]
    d: list[nn.Module] = [nn.Conv2d(channels, d_widths[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    for a, b in zip(d_widths[:-1], d_widths[1:], strict=True):
        d += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, True)]
    d += [nn.Conv2d(d_widths[-1], 1, 4, 1, 0, bias=False), nn.Flatten(0)]
    nets = nn.Sequential(*g), nn.Sequential(*d)
    for m in (m for net in nets for m in net):
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(m.weight, 0, 0.02)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1, 0.02)
    return nets


class Training:
    """Both networks and one step of each; the generator's step judges the same fake batch again."""

    def __init__(self, g_widths=(512, 256, 128, 64), d_widths=(64, 128, 256, 512), channels: int = 3,
                 latent: int = 100, rate: float = 2e-4, b1: float = 0.5, device: str = "cpu", autocast: bool = False):
        self.g, self.d = (net.to(device).to(memory_format=torch.channels_last)
                          for net in networks(g_widths, d_widths, channels, latent))
        self.g_adam, self.d_adam = (torch.optim.Adam(n.parameters(), rate, (b1, 0.999)) for n in (self.g, self.d))
        self.latent, self.device, self.autocast = latent, device, autocast

    def step(self, real: torch.Tensor) -> torch.Tensor:
        """One step on pictures [N,C,R,R], channels-last; returns the generator's loss."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            fake = self.g(torch.randn(len(real), self.latent, 1, 1, device=self.device))
            loss = (F.softplus(-self.d(real)) + F.softplus(self.d(fake.detach()))).mean()
        self.d_adam.zero_grad(set_to_none=True)
        loss.backward()
        self.d_adam.step()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            loss = F.softplus(-self.d(fake)).mean()
        self.g_adam.zero_grad(set_to_none=True)
        loss.backward()
        self.g_adam.step()
        return loss

    @torch.no_grad()
    def samples(self, z: torch.Tensor) -> torch.Tensor:
        """Pictures for z [N,Z], normalised by the running statistics."""
        self.g.eval()
        x = self.g(z[:, :, None, None])
        self.g.train()
        return x


def make_step(batch: int, width: int, device: str = "cpu", autocast: bool = False) -> Callable[[], None]:
    """A function that makes one step at 64 x 64 on random pictures and waits; `width` is the narrowest layer's."""
    widths = [width * k for k in (1, 2, 4, 8)]
    training = Training(widths[::-1], widths, device=device, autocast=autocast)
    real = (torch.rand(batch, 3, 64, 64, device=device) * 2 - 1).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        loss = training.step(real)
        if device == "cuda":
            torch.cuda.synchronize()
        else:
            loss.item()

    return step
