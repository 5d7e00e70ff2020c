"""What SadTalker's motion networks are trained for (supplement, B.3). Functions of tensors, each a mean over clips.

ExpNet learns expression from a teacher that moves only the lips, is drawn back to the teacher's landmarks while it
blinks on command, and is corrected by a network that reads lips. PoseVAE is an autoencoder with a critic.

Legend: B clips, T frames, E expression, L landmarks (iBUG, 68), P pose, Z latent, W words of a lip reader.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

EYES = slice(36, 48)
EYE_CORNERS = ((39, 36), (45, 42))
LIDS = ((37, 38, 40, 41), (43, 44, 46, 47))  # two of the upper lid, two of the lower one
READ_FRAMES = 5  # consecutive frames that the lip reader of the paper sees at once


@dataclass(frozen=True)
class ExpNetWeights:
    """Weights of ExpNet's losses, Eq. 6 and 8. The published settings list 4 for the eyes instead of 0.01 * 200."""

    distill: float = 2.0
    read: float = 0.01
    landmarks: float = 0.01
    eyes: float = 200.0


@dataclass(frozen=True)
class PoseWeights:
    """Weights of PoseVAE's losses, Eq. 11."""

    reconstruction: float = 1.0
    divergence: float = 1.0
    adversarial: float = 0.7


# ---- ExpNet


def expnet_losses(
    expression_BTE: Tensor,
    teacher_BTE: Tensor,
    *,
    landmarks: tuple[Tensor, Tensor] | None = None,
    eye_ratio_BT: Tensor | None = None,
    logits: tuple[Tensor, Tensor] | None = None,
    weights: ExpNetWeights | None = None,
) -> dict[str, Tensor]:
    """The weighted sum, "total" (Eq. 8), and its parts before weighting.

    Args:
        expression_BTE: generated, shape (B, T, 64).
        teacher_BTE: of the lips-only teacher, shape (B, T, 64).
        landmarks: of the generated and of the teacher's face, pixels, shape (B, T, 68, 2) each; None leaves the
            landmark and eye losses out.
        eye_ratio_BT: what the eyes shall do, as `eye_ratio`, shape (B, T); needed with landmarks.
        logits: what is read off the generated lips and what is heard, shape (B, W) each; None leaves it out.
        weights: default: the paper's.
    Raises:
        ValueError: landmarks without `eye_ratio_BT`.
    """
    weights = weights or ExpNetWeights()
    parts = {"distill": distill_loss(expression_BTE, teacher_BTE)}
    total = weights.distill * parts["distill"]
    if landmarks is not None:
        if eye_ratio_BT is None:
            raise ValueError("landmarks come with eye_ratio_BT, or the eyes would learn nothing")
        parts["eyes"] = eye_loss(landmarks[0], eye_ratio_BT)
        parts["landmarks"] = landmark_loss(*landmarks)
        total = total + weights.landmarks * (weights.eyes * parts["eyes"] + parts["landmarks"])
    if logits is not None:
        parts["read"] = read_loss(*logits)
        total = total + weights.read * parts["read"]
    return {"total": total, **parts}


def distill_loss(expression_BTE: Tensor, teacher_BTE: Tensor) -> Tensor:
    """Mean squared distance to the teacher's coefficients (Eq. 1)."""
    return F.mse_loss(expression_BTE, teacher_BTE)


def eye_ratio(landmarks: Tensor) -> Tensor:
    """Height over width of the eyes (Eq. 2-4), landmarks (..., 68, 2 or 3) -> (...), about 0.6 when open.

    As printed: the heights of both eyes add up while their widths are averaged, so that it is about twice the usual
    eye aspect ratio.
    """
    widths = [(landmarks[..., a, :] - landmarks[..., b, :]).norm(dim=-1) for a, b in EYE_CORNERS]
    heights = [
        (landmarks[..., a, :] + landmarks[..., b, :] - landmarks[..., c, :] - landmarks[..., d, :]).norm(dim=-1)
        for a, b, c, d in LIDS
    ]
    return (heights[0] / 2 + heights[1] / 2) / ((widths[0] + widths[1]) / 2)


def ratio_when_closed(open_ratio_B: Tensor, closure_BT: Tensor) -> Tensor:
    """What `eye_ratio` shall be when the lids are closed by 0 .. 1, shape (B, T), of eyes that are open by (B,).

    ExpNet's blink signal is the closure: 0 leaves the eyes as they are, 1 shuts them.
    """
    return open_ratio_B[:, None] * (1 - closure_BT)


def eye_loss(landmarks_BTL2: Tensor, ratio_BT: Tensor) -> Tensor:
    """Distance of the eyes' ratio from what it shall be, summed over the frames (Eq. 5)."""
    return (eye_ratio(landmarks_BTL2) - ratio_BT).abs().sum(1).mean()


def landmark_loss(landmarks_BTL2: Tensor, teacher_BTL2: Tensor) -> Tensor:
    """Mean squared distance, square pixels, of all landmarks but the eyes' from the teacher's (Eq. 6)."""
    squared = (landmarks_BTL2 - teacher_BTL2).square().sum(-1)
    return torch.cat([squared[..., : EYES.start], squared[..., EYES.stop :]], dim=-1).mean()


def read_loss(read_BW: Tensor, heard_BW: Tensor) -> Tensor:
    """Cross entropy of what is read against what is heard, logits (B, W) each, nats (Eq. 7)."""
    return F.cross_entropy(read_BW, heard_BW.detach().softmax(-1))


# ---- PoseVAE


def posevae_losses(
    change_BTP: Tensor,
    real_BTP: Tensor,
    mean_BZ: Tensor,
    log_variance_BZ: Tensor,
    scores: Tensor | None = None,
    weights: PoseWeights | None = None,
) -> dict[str, Tensor]:
    """The weighted sum, "total" (Eq. 11), and its parts before weighting.

    Args:
        change_BTP, real_BTP: generated and real pose minus the start's, shape (B, T, 6).
        mean_BZ, log_variance_BZ: of the latent, shape (B, Z).
        scores: the critic's of the generated motion; None leaves the adversarial loss out.
        weights: default: the paper's.
    """
    weights = weights or PoseWeights()
    parts = {
        "reconstruction": reconstruction_loss(change_BTP, real_BTP),
        "divergence": divergence_loss(mean_BZ, log_variance_BZ),
    }
    total = weights.reconstruction * parts["reconstruction"] + weights.divergence * parts["divergence"]
    if scores is not None:
        parts["adversarial"] = fooling_loss(scores)
        total = total + weights.adversarial * parts["adversarial"]
    return {"total": total, **parts}


def reconstruction_loss(change_BTP: Tensor, real_BTP: Tensor) -> Tensor:
    """Squared distance of the poses, summed over their numbers, mean over the frames (Eq. 9)."""
    return (change_BTP - real_BTP).square().sum(-1).mean()


def divergence_loss(mean_BZ: Tensor, log_variance_BZ: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the latent's distribution from the standard normal one, nats."""
    return 0.5 * (mean_BZ.square() + log_variance_BZ.exp() - 1 - log_variance_BZ).sum(1).mean()


def fooling_loss(scores: Tensor) -> Tensor:
    """How far the critic is from taking generated motion for real.

    The paper says PatchGAN and no more (Eq. 10); least squares are what that method's own code uses.
    """
    return (scores - 1).square().mean()


def critic_loss(real_scores: Tensor, generated_scores: Tensor) -> Tensor:
    """What the critic learns: 1 for real motion, 0 for generated, which is to be passed without its gradient."""
    return 0.5 * ((real_scores - 1).square().mean() + generated_scores.square().mean())
