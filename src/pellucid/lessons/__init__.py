"""Worked examples of courses as small modules that can be read, run and played with."""
