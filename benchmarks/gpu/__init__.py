"""What is measured on a GPU, and what can be known of it without one; docs/gpu_speed.md has it.

`all.sh` measures everything. An experiment is a script; `--device cpu` proves that it runs.

- `run_all`: all experiments, within some minutes. `plan`: their order. `packages`: for machines
  without a network. `frame`: what the experiments have in common.
- `first_contact`: the quickstart. `end_to_end`: DynaMixer-S from JPEGs. `cifar`: CIFAR-10 in full.
- `decode_parity`: pixels of all decoders. `stream_stress`: batches nobody waits for.
  `pipeline_speed`: batches a second.
- `model_speed`, `model_runs`: models beside plain ones. `kernel_speed`: the fused kernels.
  `train_step`: a step beside plain PyTorch. `engine_state`: ZeRO's stages, saved and restored.
- `offline`: what can be known without a GPU.
- `table`: docs/gpu_speed.md. `measured_tables`: its tables.
"""
