"""Many runs: the driver, its display, and the engines that train."""
