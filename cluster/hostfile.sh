#!/bin/sh
# Train over ssh, on machines that a hostfile names (`HOST slots=GPUS` a line), with the deepspeed
# launcher. All of them see the repository and the data at the same paths.
#
#     cluster/hostfile.sh hostfile --config configs/dynamixer_l.yaml [key.path=value ...]
#
# MASTER_ADDR is the address of the first machine, where `hostname -I` there says the wrong one.
# LAUNCHER is pdsh by default; openmpi, mpich and others that deepspeed knows may serve too.
set -eu
hostfile=${1:?usage: cluster/hostfile.sh HOSTFILE --config RECIPE [key.path=value ...]}
shift
set -- launch.py "$@"
if [ -n "${MASTER_ADDR:-}" ]; then set -- --master_addr "$MASTER_ADDR" "$@"; fi
exec "${DEEPSPEED:-deepspeed}" --hostfile "$hostfile" --launcher "${LAUNCHER:-pdsh}" \
    --force_multi --no_ssh_check "$@"
