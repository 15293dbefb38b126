"""`report.html`: a run, or several side by side, as one file that opens without a network.

Everything on the page comes from the folder of the run, so it can be made anew at any time, also
where neither the data nor a GPU is at hand. What training alone can see, it keeps there.

- `writer`: what a run calls. `judged`: what the model said of each validation image. `kept`: that
  and a batch as files of the run, with pictures in them. `targets`: the words above an image.
- `files`: what lies in the folder of a run. `published`: the recipe that it is nearest to, and the
  figure of its paper. `shares`: where the time went.
- `page`: the whole. `summary`, `recipes`, `images`, `history`: its sections. `charts`: its curves.
  `html`: what all are written with.
"""
