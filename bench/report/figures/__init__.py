"""The kinds of figure, one family in each module; catalogue.py says which suite has which.

from bench.report.figures.catalogue import pictures, plots

for picture in pictures(plots(results, suite)):
    print(picture.name, picture.caption, list(picture.files))   # svg, pdf, png
"""
