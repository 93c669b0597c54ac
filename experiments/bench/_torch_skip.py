"""The peer of `bench dip`: the same skip network and step in PyTorch (channels-last on a CPU), written for timing."""

import torch
from torch import nn
from torch.nn import functional as F


def _conv(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, padding_mode="reflect" if kernel > 1 else "zeros")


def _unit(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(_conv(cin, cout, kernel, stride), nn.BatchNorm2d(cout), nn.LeakyReLU(0.2, inplace=True))


class Skip(nn.Module):
    """`scales` scales of `width` maps down and up, `skip` maps across, bilinear doubling."""

    def __init__(self, cin: int, width: int, scales: int, skip: int, cout: int = 3):
        super().__init__()
        wide = [cin] + [width] * scales
        self.across = nn.ModuleList(_unit(wide[i], skip, 1) for i in range(scales))
        self.down = nn.ModuleList(
            nn.Sequential(_unit(wide[i], width, 3, 2), _unit(width, width, 3)) for i in range(scales))
        self.up = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(skip + width), _unit(skip + width, width, 3), _unit(width, width, 1))
            for _ in range(scales))
        self.head = nn.Conv2d(width, cout, 1)

    def forward(self, x):
        kept = []
        for across, down in zip(self.across, self.down, strict=True):
            kept.append(across(x))
            x = down(x)
        for side, up in zip(reversed(kept), reversed(self.up), strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = up(torch.cat([side, x], 1))
        return torch.sigmoid(self.head(x))


def make_step(size: int, cin: int, width: int, scales: int, skip: int, device: str, autocast: bool = False):
    """A function that makes one step (noise, forward, backward, Adam) and waits for the device."""
    torch.manual_seed(0)
    net = Skip(cin, width, scales, skip).to(device, memory_format=torch.channels_last)
    z = (0.1 * torch.rand(1, cin, size, size, device=device)).contiguous(memory_format=torch.channels_last)
    target = torch.rand(1, 3, size, size, device=device)
    adam = torch.optim.Adam(net.parameters(), lr=0.01)

    def step():
        adam.zero_grad()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
            out = net(z + torch.randn_like(z) / 30)
            loss = F.mse_loss(out.float(), target)
        loss.backward()
        adam.step()
        if device != "cpu":
            torch.cuda.synchronize()
        return None

    step.parameters = sum(p.numel() for p in net.parameters())
    return step
