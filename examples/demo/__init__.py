"""A photo studio on Pillion: real pictures, real work, and ``kill -9`` in the middle of it.

Run it with ``make demo`` or ``python -m examples.demo``. ``story.py`` tells what happens, in order.
"""
