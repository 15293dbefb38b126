"""What is measured against peers and papers; never shipped, and nothing shipped imports it.

- `bench_loader`, its peers in `loader_peers`: loading. `loader_tables`: docs/loader_speed.md.
- `bench_ffcv`, `bench_write`, `write_peers`, `bench_recode`, `bench_scale`: making shards.
  `data_tables`: the tables of docs/shards.md.
- `bench_model`, `model_timing`: models' speed. `model_speed`: all of it that docs/model_speed.md
  shows. `model_speed_table`: that page. `model_limits`: what keeps models from being faster.
- `engine`: the trainer beside plain PyTorch. Its tables are those of docs/engine_speed.md.
- `model_zoo`, `model_cost`, `paper_figures`: counts, beside those that the papers give.
  `zoo_throughput`: the zoo's models timed side by side.
- `token_labels`: token labels from end to end on the digits. `cifar10`: a recipe on a CPU.
- `gpu`: what is measured on a GPU. `scale`: more ranks and images than there are here.
- `chaos`, `chaos_attempt`: runs that are killed at random moments end as undisturbed ones.
- `bench_report`: what a run's report costs it.
- `plain`: each paper's architecture transcribed. `machine`: what was measured on.
  `marked_page`: pages with tables. `resumed`: measurements that go on.

Raw results lie in `results/`.
"""
