"""From MODEL to what it predicts, and to files that others load.

- `load`: the model that MODEL names, with its description. `ranks`: the processes that share work.
- `measure`: `tools/validate.py` without its words. `predict_images`: what is said of loose images.
- `predict_split`: what a model says of each image of a data set. `classes`: which output is which
  class of the data. `scores`: figures made of that. `reports`: files made of that.
- `export`: files for other programs, reloaded and compared. `usage`: what loads them. `card`: the
  page that goes with them. `average`: of several checkpoints. `converted`: a published checkpoint,
  as timm loads it.
- `annotate`: label maps of a data set, for training on labels of tokens. `dense`: what a model says
  of each place of an image.
"""
