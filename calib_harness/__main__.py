"""`python -m calib_harness`: the command line without an installed script."""

from calib_harness.cli import main

if __name__ == "__main__":
    main()
