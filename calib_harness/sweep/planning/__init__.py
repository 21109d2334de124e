"""From a sweep's YAML to its runs: everything that is decided before one starts."""
