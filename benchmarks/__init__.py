"""What Pillion's speed claims rest on: each benchmark is a command that prints JSON.

Every figure stands beside a physical limit measured in the same run, since absolute figures say
more about the machine than about the program.
"""
