"""The run of one report."""
