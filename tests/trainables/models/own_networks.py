"""Networks of somebody who uses fairsweep: what the tests of own models name."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, image_shape, classes, width=4, dropout=0.3):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(image_shape[2], width, 3, 2), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(width, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(8, classes))

    def forward(self, x):
        return self.fc(self.second(self.first(x)))


def brought(image_shape, classes):
    """Norms with statistics and affine weights of their own."""
    net = Net(image_shape, classes)
    for number, module in enumerate(net.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 0.1 * number
            module.running_var *= 2 + number
            nn.init.constant_(module.weight, 0.5)
    return net


def tied(image_shape, classes):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.fc = nn.Linear(16, 16), nn.Linear(16, classes)

        def forward(self, x):
            x = nn.functional.adaptive_avg_pool2d(x, 4).mean(1).flatten(1)
            return self.fc(torch.relu(self.inner(x)) @ self.inner.weight)

    return Tied()


def noisy(image_shape, classes):
    class Noisy(Net):
        def forward(self, x):
            return super().forward(x) + torch.rand(1)

    return Noisy(image_shape, classes)


def seeded(image_shape, classes):
    torch.seed()
    return Net(image_shape, classes)


def numpys(image_shape, classes):
    import numpy as np

    np.random.rand()  # noqa: NPY002 - the fault that is tested
    return Net(image_shape, classes)


def mixing(image_shape, classes):
    class Mixing(Net):
        def forward(self, x):
            return super().forward(x - x.mean(0))

    return Mixing(image_shape, classes)


def counting(image_shape, classes):
    class Counting(Net):
        def __init__(self, *shapes):
            super().__init__(*shapes)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += len(x)
            return super().forward(x)

    return Counting(image_shape, classes)


def wide(image_shape, classes):
    return Net(image_shape, classes + 1)


def no_instance(image_shape, classes):
    return Net


def lazy(image_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


def failing(image_shape, classes, depth=1):
    return nn.Linear(depth, "x")


def scaled(image_shape, classes):
    class Scaled(Net):
        def forward(self, x):
            return super().forward(x) * 2

    return Scaled(image_shape, classes)


def peeking(image_shape, classes):
    class Peeking(Net):
        def forward(self, x):
            return super().forward(x + self.fc[2].bias.mean())

    return Peeking(image_shape, classes)
