"""Other people's data sets, listed: each layout yields a `Scan`.

- `find`: what lies in a source folder. `unknown`: what to say where it is no layout.
- `scan_builder`: collects entries, makes the scan of them.
- `imagenet_tars`, `kaggle`: ImageNet as its authors and as Kaggle give it.
- `cifar`, `array_pickle`: CIFAR's archives, read without executing what is in a pickle.
- `csv_list`: a list of paths and labels. `remote_folders`: class folders at a URL.
- `splits`: validation images held out of the others, and classes left out.
- `webdataset`: shards that others made.
- `parquet`, `parquet_columns`, `row_groups`: Hugging Face's export.
- `converted`: our shards or an FFCV file, as the input of another conversion.
"""
