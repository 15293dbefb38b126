#!/bin/sh
# Train on machines that a hostfile names (`HOST slots=GPUS` a line), with the deepspeed launcher,
# over ssh. All of them see the repository and the data at the same paths.
#
#     cluster/hostfile.sh hostfile --config configs/dynamixer_l.yaml [key.path=value ...]
#
# MASTER_ADDR is the address of the first machine, where `hostname -I` there says the wrong one;
# MASTER_PORT a free port of it. LAUNCHER is pdsh by default; openmpi, mpich and others that deepspeed
# knows may serve too. Where the machines do not reach each other by ssh, start the same command on
# each, with NODE_RANK, its place in the hostfile from 0, and MASTER_ADDR.
set -eu
hostfile=${1:?usage: cluster/hostfile.sh HOSTFILE --config RECIPE [key.path=value ...]}
shift
set -- launch.py "$@"
if [ -n "${MASTER_ADDR:-}" ]; then set -- --master_addr "$MASTER_ADDR" "$@"; fi
if [ -n "${MASTER_PORT:-}" ]; then set -- --master_port "$MASTER_PORT" "$@"; fi
if [ -n "${NODE_RANK:-}" ]; then
    set -- --no_ssh --node_rank "$NODE_RANK" "$@"
else
    set -- --launcher "${LAUNCHER:-pdsh}" --force_multi --no_ssh_check "$@"
fi
exec "${DEEPSPEED:-deepspeed}" --hostfile "$hostfile" "$@"
