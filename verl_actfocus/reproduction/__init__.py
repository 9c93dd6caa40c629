"""The paper's tables from training runs: a declarative file per table, a grid of runs, the table beside the paper's.

===================  ==================================================================================================
`specification`      what a file of ``recipes/paper/`` says, checked
`grid`               the runs that a table is made of
`training`           runs or resumes them, one after another; a failed one does not stop the others
`figures`            estimates with intervals from the runs that have finished
`curves`             the learning curves: picture, and difference to the baseline at every evaluation
`writing`            Markdown, CSV and LaTeX
===================  ==================================================================================================
"""
