"""What convsync costs, beside what the same work costs at least. Run it with `python -m benchmarks`."""
