"""A network of your own: a few convolutions with dropout. It needs nothing of fairsweep."""

from torch import nn


class Faces(nn.Module):
    """Convolutions that halve the map, then a linear layer on its mean.

    Args:
        image_shape: (height, width, channels), given by fairsweep.
        classes: Number of classes, given by fairsweep.
        width: Channels of the first convolution; an argument of the sweep file.
        dropout: Probability that a feature is dropped; another one.
    """

    def __init__(self, image_shape, classes, width=16, dropout=0.1):  # noqa: ANN001, ANN204
        super().__init__()
        channels, layers = image_shape[2], []
        for out in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.body = nn.Sequential(*layers)
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.fc = nn.Linear(channels, classes)

    def forward(self, images):  # noqa: ANN001, ANN201
        """Map float32 [B, C, H, W] in [-1, 1] to logits [B, classes]."""
        return self.fc(self.mean(self.body(images)))
