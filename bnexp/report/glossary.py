"""The terms of a report, for readers who have not met them."""

from __future__ import annotations

GLOSSARY = (
    ("arm", "One side of a comparison: all runs with the same norm (with BN, without BN, ...)."),
    ("batch norm (BN)", "Each channel is normalized with the batch's mean and variance, then scaled by gamma and shifted by beta."),
    ("batch statistics", "The mean and the variance of the values in one batch, for each channel."),
    ("best learning rate", "That with the lowest mean validation loss. The test data are never used for a choice."),
    ("diverged", "The loss became infinite or not a number. The run has a result and counts as a failure."),
    ("evaluation", "The network is scored on validation or test data in eval mode, with running statistics unless something else is said."),
    ("generalization gap", "Training accuracy minus test accuracy at the end of training."),
    ("Holm's p", "A p value that is corrected for the number of tests in the study (Holm 1979)."),
    ("internal covariate shift", "How much a layer's gradient changes when the layers before it are updated (Santurkar et al. 2018)."),
    ("95 % interval", "Computed from the differences between seeds; it contains the true value in 95 % of such experiments."),
    ("loss landscape", "The loss along the direction of the gradient, at several step sizes (Santurkar et al. 2018)."),
    ("no difference shown", "The interval includes zero. That does not show that the arms are equal."),
    ("points", "Percentage points: from 95 % to 96 % is one point."),
    ("precise statistics", "The mean and the variance over the training data, computed after training (Wu and Johnson 2021)."),
    ("probe batch", "A fixed batch on which activations are measured, always the same images."),
    ("run", "One trained network: one config, one seed."),
    ("running statistics", "The moving averages of batch statistics that BN uses in eval mode."),
    ("seed", "The number that fixes initial weights and the order of the data. Arms with the same seed have both in common."),
    ("sharpness", "The largest eigenvalue of the loss's Hessian; above 2/lr gradient descent is unstable (Cohen et al. 2021)."),
    ("stable learning rate", "At least half of the runs end with 0.8 or more of their seed's best validation accuracy."),
    ("steps to target", "Updates until the validation accuracy first reaches the target. A run that never does counts as infinite."),
)
"""Term and explanation, in alphabetical order but for what a symbol or number begins."""
