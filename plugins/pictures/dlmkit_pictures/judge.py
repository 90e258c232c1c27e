"""How good made pictures are, by a classifier that has seen real ones only.

Dimensions: N pictures, C channels, H side, F features, K classes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlmkit.data.cache import locked

__all__ = ["Judge", "Verdict", "frechet_distance", "spread"]


class Verdict(NamedTuple):
    """What a judge says of made pictures.

    Args:
        distance: Between made and real pictures in the judge's features (Fréchet); 0 for the same. Each set of pictures
            has a judge, and so a scale, of its own: this is not the Inception distance (FID).
        coverage: Classes that made pictures are in, as exp(entropy) / K: 1 when they are spread evenly, 1 / K when all
            are of one class, as where the modes have collapsed.
        confidence: The mean of the judge's largest probability.
    """

    distance: float
    coverage: float
    confidence: float


class Judge:
    """A small convolutional classifier, trained when it is made, in a few seconds for a thousand small pictures.

    References:
        | Improved Techniques for Training GANs (Salimans et al., 2016), for judging by a classifier
        | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017), for
          the Fréchet distance of features

    Args:
        pictures: Real ones (N, C, H, H), float32 from 0 to 1.
        labels: Their classes (N,), int64.
        seed: Of its start and of the order of the pictures.
        steps: Batches of 64 that it is trained on.
    """

    def __init__(self, pictures: Tensor, labels: Tensor, seed: int = 0, steps: int = 400) -> None:
        with _single_precision(), torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.inference_mode(False):
            torch.manual_seed(seed)
            pictures = pictures.float()
            self.features = _features(pictures.shape[1])
            self.classes = nn.Linear(64, int(labels.max()) + 1)
            self._train(pictures, labels, steps)

    @classmethod
    def of(cls, pictures: Tensor, labels: Tensor, seed: int = 0, steps: int = 400) -> Judge:
        """The judge of these pictures, trained once on a machine and then kept in the cache.

        Args:
            pictures: Real ones (N, C, H, H), float32 from 0 to 1.
            labels: Their classes (N,), int64.
            seed: Of its start and of the order of the pictures.
            steps: Batches of 64 that it is trained on.

        Raises:
            UserError: If the cache cannot be written.
        """
        made_from = hashlib.sha256(Path(__file__).read_bytes())
        made_from.update(f"{torch.__version__} {seed} {steps} {tuple(pictures.shape)}".encode())
        for table in (pictures, labels):
            made_from.update(table.contiguous().numpy().data)
        with locked(f"judge-{made_from.hexdigest()[:20]}") as stem:
            file, unfinished = stem.with_suffix(".pt"), stem.with_suffix(".part")
            if file.is_file():
                judge = cls(pictures, labels, seed, steps=0)
                judge._parts.load_state_dict(torch.load(file, weights_only=True))
            else:
                judge = cls(pictures, labels, seed, steps)
                torch.save(judge._parts.state_dict(), unfinished)
                unfinished.replace(file)
        return judge

    @property
    def _parts(self) -> nn.ModuleList:
        return nn.ModuleList([self.features, self.classes])

    def _train(self, pictures: Tensor, labels: Tensor, steps: int) -> None:
        parameters = list(self._parts.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=0.003, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.003, total_steps=max(steps, 1))
        for _ in range(steps):
            rows = torch.randint(len(labels), (min(64, len(labels)),))
            loss = F.cross_entropy(self.classes(F.dropout(self.features(pictures[rows]), 0.2)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        for parameter in parameters:
            parameter.requires_grad_(False)

    @torch.no_grad()
    def look(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, F) and probabilities of the classes (N, K) of pictures (N, C, H, H)."""
        with _single_precision():
            features = torch.cat([self.features(part.float().cpu()) for part in pictures.split(500)])
            return features, torch.softmax(self.classes(features), dim=1)

    def accuracy(self, pictures: Tensor, labels: Tensor) -> float:
        """The share of pictures that it takes for what they are to be.

        Of real ones it says how far the judge can be trusted, of made ones how many are as they were asked for.

        Args:
            pictures: (N, C, H, H), from 0 to 1.
            labels: (N,), int64.
        """
        return float((self.look(pictures)[1].argmax(1) == labels.cpu()).float().mean())

    def verdict(self, made: Tensor, real: Tensor) -> Verdict:
        """Compare made pictures (N, C, H, H) with real ones (M, C, H, H)."""
        features, p = self.look(made)
        share = p.mean(dim=0)
        entropy = float(-(share * share.clamp(min=1e-12).log()).sum())
        distance = frechet_distance(features.double().numpy(), self.look(real)[0].double().numpy())
        return Verdict(distance, float(np.exp(entropy)) / p.shape[1], float(p.max(dim=1).values.mean()))


def spread(rows: Tensor, most: int) -> Tensor:
    """At most so many of some rows (N, …), evenly spread over all, because pictures may lie in the order of classes."""
    count = len(rows)
    return rows if count <= most else rows[torch.linspace(0, count - 1, most, dtype=torch.double).round().long()]


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    r"""The Fréchet distance of two sets of vectors, each taken for a normal distribution.

    .. math::
        d^2 = \lVert \mu_1 - \mu_2 \rVert^2 + \operatorname{tr}\bigl(\Sigma_1 + \Sigma_2
        - 2 (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2}\bigr)

    References:
        | The Fréchet Distance between Multivariate Normal Distributions (Dowson & Landau, 1982)

    Args:
        one: Vectors (N, F).
        other: Vectors (M, F).

    Returns:
        The squared distance, as it is usually reported.
    """
    (m1, s1), (m2, s2) = ((x.mean(axis=0), np.cov(x, rowvar=False)) for x in (one, other))
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ s2 @ root).clip(min=0)).sum()
    return float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * cross)


@contextlib.contextmanager
def _single_precision() -> Iterator[None]:
    """Judge in float32, on the CPU, whatever the precision of the run that asks."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_default_dtype(before)


def _features(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.ReLU(),
    )
