"""Clustering and density of feature vectors: k-means, k-centre greedy and a Gaussian mixture.

Everything is computed on the CPU in float64, with separate generators: the same points give the same result from every
device and for every global random state; another kind of processor may change the last digits. No step holds a tensor
of points x centres x features. Wrong shapes, dtypes and numbers, NaN and infinity raise ValueError.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ripu_lightning.errors import require_integer, require_number

CHUNK = 1024
"""Points that are compared with all centres at a time."""

BLOCK = 128
"""Points among which k-centre picks on before it brings all others up to date."""

TOLERANCE = 1e-4
"""EM ends when the mean log-likelihood gains less than this share of itself."""

TINY_VARIANCE = 1e-12
"""Added to a mixture's smallest variance, so that points that are all equal have a density too."""


def k_means(points: Tensor, clusters: int, seed: int, iterations: int = 100) -> Tensor:
    """Centres of ``K`` clusters with a small ``J = sum_n min_k |x_n - c_k|^2``.

    Start (k-means++; Arthur & Vassilvitskii, SODA 2007): the first centre is a point drawn uniformly, each further
    one a point drawn with probability ``d_n^2 / sum_m d_m^2``, where ``d_n`` is the distance to the nearest centre so
    far. Then (Lloyd, IEEE Trans. Inf. Theory 1982) each point goes to its nearest centre, the first of equals, and
    each centre to the mean of its points, until no point changes its cluster; ``J`` never grows. A cluster left
    without points restarts at the point farthest from its centre.

    Args:
        points: ``(N, D)``, floating and finite, N of 1 or more.
        clusters: clusters wanted, 1 or more; ``K`` is this or the number of distinct points, whichever is less.
        seed: of the draws of the start.
        iterations: updates of the centres at most, 0 or more; 0 returns the start.

    Returns:
        ``(K, D)`` float64 on the CPU.

    >>> k_means(torch.tensor([[0.0], [1.0], [10.0], [12.0]]), clusters=2, seed=0).sort(dim=0).values
    tensor([[ 0.5000],
            [11.0000]], dtype=torch.float64)
    """
    points = _prepare("points", points, least=1)
    require_integer("k_means", "clusters", clusters, least=1)
    require_integer("k_means", "iterations", iterations)
    centres = _spread_start(points, clusters, seed)
    before = None
    for _ in range(iterations):
        nearest = _nearest(points, centres)[1]
        if before is not None and torch.equal(nearest, before):
            break
        centres, before = _cluster_means(points, nearest, len(centres)), nearest
    return centres


def k_centre(points: Tensor, count: int, start: Tensor) -> list[int]:
    """Indices of ``count`` points that cover the others, in order of picking (Sener & Savarese, ICLR 2018, alg. 1).

    Each pick is ``argmax_n min_j |x_n - c_j|`` over the points not yet picked, where ``c_j`` runs over ``start`` and
    the picks so far; equal distances go to the lowest index. With an empty start the first pick is index 0: put the
    point that should go first there. Points that equal a centre come last, each once.

    Args:
        points: ``(N, D)``, floating and finite.
        count: picks wanted, 0 or more; at most N are returned.
        start: ``(M, D)``, the centres there are already; M may be 0.

    >>> k_centre(torch.tensor([[0.0], [1.0], [4.0], [9.0]]), count=3, start=torch.tensor([[0.0]]))
    [3, 2, 1]
    """
    points, start = _prepare("points", points), _prepare("start", start)
    if start.shape[1] != points.shape[1]:
        raise ValueError(f"expected start (M, {points.shape[1]}) as points are, got {tuple(start.shape)}")
    require_integer("k_centre", "count", count)
    count, picks = min(count, len(points)), list[int]()
    if not count:
        return picks
    points, start = points - points[0], start - points[0]  # see _shorten
    norms = points.square().sum(dim=1)
    distance = points.new_full((len(points),), torch.inf)
    for centres in _parts(start):
        _shorten(distance, points, norms, centres)
    while len(picks) < count:
        if float(distance.max()) > 0:
            found = _farthest(distance, points, count - len(picks))
            _shorten(distance, points, norms, points[found])
        else:
            found = (distance == 0).nonzero()[: count - len(picks), 0].tolist()
        picks += found
        distance[found] = -1  # below every distance, for good
    return picks


@dataclass(frozen=True)
class GaussianMixture:
    """A density ``p(x) = sum_k w_k prod_d N(x_d; m_kd, v_kd)``: Gaussians with diagonal covariance.

    Attributes:
        log_weights: ``(K,)``, ``log w_k``; float64, as the others.
        means: ``(K, D)``.
        variances: ``(K, D)``, above 0.

    >>> generator = torch.Generator().manual_seed(0)
    >>> mixture = GaussianMixture.fit(torch.randn(1000, 2, generator=generator), components=1, seed=0)
    >>> mixture.log_density(torch.zeros(1, 2)).item()  # of the standard normal: -log(2 pi) = -1.84
    -1.8
    """

    log_weights: Tensor
    means: Tensor
    variances: Tensor

    @classmethod
    def fit(
        cls, points: Tensor, components: int, seed: int, iterations: int = 100, floor: float = 1e-6
    ) -> "GaussianMixture":
        """The mixture that expectation-maximisation finds from the clusters of :func:`k_means`.

        With shares ``r_nk = w_k N_k(x_n) / p(x_n)`` (at the start 1 in a point's cluster, else 0) and their sums
        ``n_k``, each iteration sets ``w_k = n_k / N``, ``m_k = sum_n r_nk x_n / n_k`` and
        ``v_k = max(sum_n r_nk (x_n - m_k)^2 / n_k, v_min)`` (Dempster, Laird & Rubin, JRSS B 1977), until the mean
        of ``log p(x_n)`` gains less than :data:`TOLERANCE` of itself; it never falls.

        Args:
            points: ``(N, D)``, floating and finite, N of 1 or more.
            components: Gaussians wanted, 1 or more; at most as many as there are distinct points.
            seed: of the k-means start.
            iterations: of EM at most, 0 or more.
            floor: ``v_min`` is this times the points' variance, averaged over the features, plus
                :data:`TINY_VARIANCE`; 0 or more.
        """
        points = _prepare("points", points, least=1)
        require_integer("GaussianMixture", "components", components, least=1)
        require_integer("GaussianMixture", "iterations", iterations)
        require_number("GaussianMixture", "floor", floor)
        centres = k_means(points, components, seed)
        shares = torch.nn.functional.one_hot(_nearest(points, centres)[1], len(centres)).double()
        minimum = floor * points.var(dim=0, correction=0).mean().item() + TINY_VARIANCE
        mixture = cls._maximise(points, shares, minimum)
        before = -math.inf
        for _ in range(iterations):
            joint = mixture._log_joint(points)
            total = joint.logsumexp(dim=1)
            likelihood = total.mean().item()
            if likelihood - before <= TOLERANCE * abs(likelihood):
                break
            mixture, before = cls._maximise(points, (joint - total[:, None]).exp_(), minimum), likelihood
        return mixture

    def log_density(self, points: Tensor) -> Tensor:
        """``log p(x_n)`` of points ``(N, D)`` -> ``(N,)`` float64 on the CPU, by log-sum-exp over the components."""
        points = _prepare("points", points)
        if points.shape[1] != self.means.shape[1]:
            raise ValueError(f"expected points (N, {self.means.shape[1]}), got {tuple(points.shape)}")
        return self._log_joint(points).logsumexp(dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        """The arguments of this class by name."""
        return dict(vars(self))

    @classmethod
    def _maximise(cls, points: Tensor, shares: Tensor, minimum: float) -> "GaussianMixture":
        """The most likely mixture for shares ``(N, K)`` of the points in the components."""
        # A component that no point belongs to keeps a weight that is next to nothing, instead of NaN.
        counts = shares.sum(dim=0).clamp_(min=torch.finfo(torch.float64).tiny)
        means = shares.T @ points / counts[:, None]
        variances = torch.zeros_like(means)
        for part, share in zip(_parts(points), _parts(shares), strict=True):
            for k, mean in enumerate(means):
                variances[k] += share[:, k] @ (part - mean).square_()
        variances /= counts[:, None]
        return cls((counts / len(points)).log(), means, variances.clamp_(min=minimum))

    def _log_joint(self, points: Tensor) -> Tensor:
        """``log(w_k N_k(x_n))``, ``(N, K)``."""
        precisions = self.variances.reciprocal()
        constants = self.log_weights - 0.5 * (2 * math.pi * self.variances).log().sum(dim=1)
        parts = [
            torch.stack([(part - mean).square_() @ p for mean, p in zip(self.means, precisions, strict=True)], dim=1)
            for part in _parts(points)
        ]
        return constants - 0.5 * torch.cat(parts)


def _farthest(distance: Tensor, points: Tensor, most: int) -> list[int]:
    """The next picks of :func:`k_centre`, 1 to ``most``: as many as the :data:`BLOCK` farthest points decide.

    Distances only shrink. While the farthest point of the block is farther than any point outside it was, no point
    outside can be the next pick, so that the points outside need no update in between.
    """
    ranked = distance.sort(descending=True, stable=True).indices
    outside = float(distance[ranked[BLOCK]]) if len(ranked) > BLOCK else -math.inf
    index = ranked[:BLOCK].sort().values  # in order, so that argmax finds the first of equals
    block, near = points[index], distance[index]
    picks: list[int] = []
    while len(picks) < most:
        pick = int(near.argmax())
        if picks and float(near[pick]) <= outside:
            break
        picks.append(int(index[pick]))
        near = torch.minimum(near, (block - block[pick]).square_().sum(dim=1))
        near[pick] = -1
    return picks


def _shorten(distance: Tensor, points: Tensor, norms: Tensor, centres: Tensor) -> None:
    """Lower ``distance`` ``(N,)`` in place to the squared distance to the nearest of ``centres`` ``(M, D)``.

    The product ``|c|^2 - 2xc`` finds the nearest centre, and differences its distance: the product alone cancels, and
    equal points would have a distance above 0. Rounding of the product can prefer a centre that is farther, by less
    than ``1e-6`` times the largest of ``norms``' roots. Points are relative to one of them, so that these stay small.
    """
    if not len(centres):
        return
    lengths = centres.square().sum(dim=1)
    slack = 1e-12 * float(norms.max() + lengths.max())
    for first in range(0, len(points), CHUNK):
        here = slice(first, first + CHUNK)
        least, nearest = torch.addmm(lengths, points[here], centres.T, alpha=-2).min(dim=1)
        rows = (least + norms[here] <= distance[here] + slack).nonzero()[:, 0]
        exact = (points[here][rows] - centres[nearest[rows]]).square_().sum(dim=1)
        distance[first + rows] = torch.minimum(distance[first + rows], exact)


def _spread_start(points: Tensor, clusters: int, seed: int) -> Tensor:
    """The start of k-means++; ends early when every point equals a centre."""
    generator = torch.Generator().manual_seed(seed)
    weights = points.new_ones(len(points))
    distance = points.new_full((len(points),), torch.inf)
    picks: list[int] = []
    while len(picks) < clusters and bool(weights.any()):
        picks.append(_draw(weights, generator))
        distance = torch.minimum(distance, _distances(points, points[picks[-1:]]).squeeze(1))
        weights = distance.square()
    return points[picks]


def _draw(weights: Tensor, generator: torch.Generator) -> int:
    """An index drawn with probability ``w_n / sum_m w_m``, never one of weight 0."""
    total = weights.cumsum(dim=0)
    target = torch.rand((), dtype=torch.float64, generator=generator) * total[-1]
    return int(torch.searchsorted(total, target, right=True))


def _cluster_means(points: Tensor, nearest: Tensor, clusters: int) -> Tensor:
    """Means of the points of each cluster; an empty one gets the point farthest from all centres."""
    counts = torch.bincount(nearest, minlength=clusters)
    sums = points.new_zeros((clusters, points.shape[1])).index_add_(0, nearest, points)
    centres = sums / counts.clamp(min=1)[:, None]
    filled = counts > 0
    for empty in (~filled).nonzero().flatten().tolist():
        centres[empty] = points[_nearest(points, centres[filled])[0].argmax()]
        filled[empty] = True
    return centres


def _nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Distance ``(N,)`` to the nearest centre and its index ``(N,)``, the first of equals."""
    found = [_distances(part, centres).min(dim=1) for part in _parts(points)]
    return torch.cat([best.values for best in found]), torch.cat([best.indices for best in found])


def _distances(points: Tensor, centres: Tensor) -> Tensor:
    # The faster |x|^2 - 2xc + |c|^2 cancels: equal points would have a distance above 0, and ties a random order.
    return torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist")


def _parts(points: Tensor) -> Iterator[Tensor]:
    for first in range(0, max(len(points), 1), CHUNK):  # one empty part if there are no points
        yield points[first : first + CHUNK]


def _prepare(name: str, points: Tensor, least: int = 0) -> Tensor:
    if points.ndim != 2 or points.shape[1] == 0 or not points.is_floating_point():
        raise ValueError(f"expected floating {name} (N, D), got {points.dtype} of shape {tuple(points.shape)}")
    if len(points) < least:
        raise ValueError(f"expected at least one point, got {name} of shape {tuple(points.shape)}")
    points = points.detach().to("cpu", torch.float64).contiguous()
    if not math.isfinite(points.sum().item()):  # isfinite() of every value would copy a gigabyte of points
        raise ValueError(f"expected finite {name}, got NaN or infinity")
    return points
