"""The distillation recipe: conditions, codec, teacher, ODE initialisation, DMD with a critic.

`losses` has every objective as a pure function; the other modules turn recipes into weights.
"""
