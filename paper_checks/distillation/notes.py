"""Numbers of the notes on the distillation paper (002), with the lines they stand in."""

from __future__ import annotations

import math

# Line 14: the sweeps, the steps and batches; line 12: chips and steps a second.
BETAS = (0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0)
TAUS = (0.01, 0.1, 1.0, 3.0, 5.0, 10.0, 25.0)
POLICY_STEPS, POLICY_BATCH, POLICY_CHIPS = 10_000, 16, 32
ANNEALING_STEPS = 10_000
REWARD_STEPS, REWARD_BATCH, REWARD_CHIPS = 3_000, 64, 16
STEPS_A_SECOND = 0.1
# Lines 10 and 11: the training sets D_ρ, what "longer" means, and how often the oracle prefers the longer.
EXAMPLES = 30_000
RHOS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
LONGER = math.log(1.1)
BASE_RATE = 0.61
