"""How fast the harness is: ``python -m benchmarks`` measures, and writes ``docs/benchmarks.md``."""
