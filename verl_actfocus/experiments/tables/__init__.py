"""The runs that the tables of `recipes/paper/` are made of.

- `table`: what a declarative file says; `files`: where it is found, and what is refused in it.
- `grid`: the runs that it asks for.
"""
