"""Sweeps: many models, one command, nothing lost.

A sweep starts runs of lm-eval as processes of their own and keeps the state of each in the file
system; it never imports lm-eval or torch.
"""
