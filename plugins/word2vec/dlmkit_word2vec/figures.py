"""Maps of words: vectors in two dimensions, with an arrow for each pair of a relation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlmkit_word2vec.vectors import Vectors

__all__ = ["flattened", "map_figure"]

_COLOURS = ("#1f5fa8", "#c2571a", "#2c8a4b", "#7b4ba6", "#8a6d1d")


def flattened(points: NDArray[np.float32], method: Literal["pca", "tsne"]) -> NDArray[np.float64]:
    """Points (N, D) in two dimensions (N, 2).

    PCA is a projection: parallel arrows stay parallel. t-SNE keeps neighbours together and no directions.

    References:
        | Visualizing Data using t-SNE (van der Maaten, Hinton, 2008)

    Args:
        points: At least 4.
        method: Which one.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if method == "pca":
        flat: NDArray[np.float64] = PCA(2, svd_solver="full").fit_transform(points)
        return flat
    perplexity = min(10.0, (len(points) - 1) / 3)
    close: NDArray[np.float64] = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(points)
    return close


def map_figure(
    vectors: Vectors, relations: Mapping[str, Sequence[tuple[str, str]]], method: Literal["pca", "tsne"]
) -> Figure:
    """A map of the words of some relations, an arrow from the first to the second word of each pair.

    Args:
        vectors: What was learnt.
        relations: Name to pairs of known words.
        method: How the vectors come into the plane.
    """
    words = list(dict.fromkeys(word for pairs in relations.values() for pair in pairs for word in pair))
    flat = flattened(vectors.directions[[vectors.number[word] for word in words]], method)
    place = dict(zip(words, flat, strict=True))
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.add_subplot()
    for (name, pairs), colour in zip(relations.items(), _COLOURS, strict=False):
        for number, (first, second) in enumerate(pairs):
            style: dict[str, Any] = {"arrowstyle": "-|>", "color": colour, "alpha": 0.55, "lw": 1.6, "shrinkB": 4}
            axes.annotate("", tuple(place[second]), tuple(place[first]), arrowprops=style)
            both = np.array([place[first], place[second]])
            axes.scatter(both[:, 0], both[:, 1], s=26, color=colour, zorder=3, label=name if number == 0 else None)
    colours = {w: c for pairs, c in zip(relations.values(), _COLOURS, strict=False) for pair in pairs for w in pair}
    arrows = [(place[a], place[b]) for pairs in relations.values() for a, b in pairs]
    axes.margins(0.1)
    axes.set(xticks=[], yticks=[], title=f"{len(words)} words, {'PCA' if method == 'pca' else 't-SNE'}")
    figure.legend(loc="outside lower center", ncols=len(relations), fontsize=13, frameon=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # so that it is known where everything lies
    steps = np.linspace(0, 1, 12)[:, None]
    drawn = np.concatenate([flat, *(a + (b - a) * steps for a, b in arrows)])  # where no word should stand
    _write_words(axes, canvas, words, flat, drawn, colours)
    return figure


# Where a word may stand, seen from its point: offsets in points, and how it is aligned to them.
_PLACES = [(dx, dy) for r in (7, 15, 25, 36) for dx, dy in ((r, 0), (-r, 0), (0, r), (0, -r), (r, r), (-r, r), (r, -r))]
_PLACES += [(-dx, dy) for dx, dy in _PLACES if dx and dy < 0]


def _write_words(
    axes: Axes,
    canvas: FigureCanvasAgg,
    words: list[str],
    flat: NDArray[np.float64],
    drawn: NDArray[np.float64],
    colours: Mapping[str, str],
) -> None:
    """Write each word beside its point, where it covers no other word and nothing drawn, if there is such a place."""
    renderer, frame = canvas.get_renderer(), axes.get_window_extent()
    points = axes.transData.transform(drawn)
    taken: list[Any] = []
    for number in np.argsort(-flat[:, 1]):
        best = None
        for dx, dy in _PLACES:
            text = axes.annotate(
                words[number],
                flat[number],
                (dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="bottom" if dy > 0 else "top" if dy < 0 else "center",
                color=colours[words[number]],
                fontsize=13,
            )
            box = text.get_window_extent(renderer)
            inside = (points >= box.min) & (points <= box.max)
            covered = 3 * sum(box.overlaps(other) for other in taken) + int(inside.all(axis=1).sum())
            covered += 9 * (box.x1 > frame.x1 or box.x0 < frame.x0 or box.y1 > frame.y1 or box.y0 < frame.y0)
            if best is None or covered < best[0]:
                if best is not None:
                    best[1].remove()
                best = (covered, text, box)
            else:
                text.remove()
            if not covered:
                break
        if best is not None:
            taken.append(best[2])
