"""The law of batch statistics: how mean and variance of a channel, taken over B random images, vary with B.

The B images are independent, a map's P pixels are not. Of one channel, let s2 be the variance over images and pixels, m_i image i's mean,
v = Var(m_i), u_i image i's mean squared distance from the channel's mean, and n = B P. All of it follows from the moments of independent
images; nothing is assumed to be Gaussian. With the intra-image correlation rho of pixels, v = s2 (rho + (1 - rho) / P).

It holds at the first norm of a network, and at the others where those below use constants. In train mode a norm centres every batch, so
that what comes after it depends on all images of the batch: `batch_noise` measures it there.

    Var[mu_B] = v / B; v / B (N - B) / (N - 1), where the B images are drawn from N without replacement, as in training
    M_eff = s2 / Var[mu_B] = B / (rho + (1 - rho) / P), the number of independent values that B images are worth
    E[s2_B] = s2 - v / B, and PyTorch's running_var tends to n / (n - 1) (s2 - v / B) = n / (n - 1) s2 (1 - 1 / M_eff): the correction
        n / (n - 1) takes the pixels of a map for independent, so that running_var is too small for small B
    Var[s2_B] = Var(u) / B + (mu4 + 3 (B - 1) v^2) / B^3 - v^2 / B^2 - 2 Cov(u, z^2) / B^2, z_i = m_i - mean, mu4 = E[z^4]
    outlier sensitivity max_i |mu_B - mu_{B without i}| / sigma = max_i |m_i - mu_B| / ((B - 1) sigma), about 1 / B

Source: derived here, and tested against simulated data; the effective sample size is that of cluster sampling (Kish 1965, Survey
Sampling, section 5.4).
"""

from __future__ import annotations

import torch
from torch import Tensor


def mean_variance(v: Tensor, batch: int, images: int | None = None) -> Tensor:
    """Var[mu_B], drawn without replacement from so many images; with replacement by default."""
    return v / batch if images is None else v / batch * ((images - batch) / max(1, images - 1))


def running_var_bias(share: Tensor, batch: int, pixels: Tensor) -> Tensor:
    """E[PyTorch's running_var] / s2, where `share` is Var[mu_B] / s2; NaN where a batch has one value a channel."""
    n = batch * pixels
    return torch.where(n > 1, n / (n - 1).clamp(min=1) * (1 - share), torch.nan)


def correlation(s2: Tensor, v: Tensor, pixels: Tensor) -> Tensor:
    """rho, the intra-image correlation of pixels; 0 on maps of one pixel."""
    return torch.where(pixels > 1, (v / s2 - 1 / pixels) / (1 - 1 / pixels.clamp(min=2)), 0.0)


def variance_of_variance(image_mean_N: Tensor, image_square_N: Tensor, batch: int) -> Tensor:
    """Var[s2_B] over batches drawn with replacement from N images, [...]; the arguments are [N, ...]: m_i, and u_i about the channel's
    mean."""
    z, u = image_mean_N - image_mean_N.mean(0), image_square_N
    z2 = z.square()
    v, mu4 = z2.mean(0), z2.square().mean(0)
    covariance = (u * z2).mean(0) - u.mean(0) * v
    var_u = u.var(0, correction=0)
    return var_u / batch + (mu4 + 3 * (batch - 1) * v.square()) / batch**3 - v.square() / batch**2 - 2 * covariance / batch**2


def outlier_sensitivity(image_mean_KB: Tensor, sigma: Tensor) -> Tensor:
    """max_i |mu_B - mu_{B without i}| / sigma of K batches of B images, [K, ...], from their images' means [K, B, ...]; B is 2 or more."""
    batch = image_mean_KB.shape[1]
    distance = (image_mean_KB - image_mean_KB.mean(1, keepdim=True)).abs().amax(1)
    return distance / ((batch - 1) * sigma)
