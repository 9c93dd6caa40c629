"""WebShop without a web server: catalogue, search, goals, pages and reward in plain Python.

`catalogue` reads and checks the product files, `search` indexes them, `goals` turns them into what
shoppers ask for, `pages` is the shop one clicks through, `reward` judges a purchase, `env` puts them
together, `expert` buys. `tools/webshop` in the repository made the catalogue that the package ships, and says how much
the reward's one approximation matters.
"""
