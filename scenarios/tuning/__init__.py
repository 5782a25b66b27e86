"""Tuning: which values of a few settings suit a scenario, searched for with equal budgets, told with held-out seeds.

A trial is a setting of every tuned key, run with each tuning seed in the virtual engine. Trial 0 is the scenario as it
stands. Its score is the mean final score on training samples that were set aside, so that neither the test samples
nor the held-out seeds have had a part in choosing; the chosen settings are measured on these at the end.
"""

VALIDATION = 0.2
"""Share of each class's training samples that scores are measured on."""
