"""One verb a file: what is done from a command line.

- `make_shards`, `make_folders`, `make_digits`: data made. `check_data`: data checked and mended.
  `make_token_labels`: maps of labels that go with a split.
- `convert_checkpoint`, `export_weights`, `average_checkpoints`: weights from elsewhere, for
  elsewhere, and several made one.
- `validate`, `predict`: a model measured, and asked. `trained`: what is done with trained models.
- `preview_batches`, `plot_run`, `report_run`, `watch_run`: what a run sees, what it did, and how
  far it is; `preview`: images as the model sees them.
- `bench_loader`: where the time of training goes; `speed`: how it is measured. `tune`: how a model
  trains fastest; `tuning`: how that is found.
- `cli`: what the tools' command lines share.
"""
