"""The reference streaming generator: a few-step causal video diffusion transformer that talks block by block."""
