"""Benchmarks. They report figures and assert nothing."""
