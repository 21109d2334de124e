"""The plugin: everything that imports lm-eval, and the only room its releases can break."""
