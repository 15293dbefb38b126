#!/bin/sh
# Start the ranks of one node under torchrun, and end with the code that the run itself ended with,
# which torchrun turns into 1.
#
#     cluster/run_node.sh --config configs/dynamixer_l.yaml [key.path=value ...]
#
# NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT say which node it is (one node by default);
# RANKS_PER_NODE how many processes it runs (one for each GPU by default), MAX_RESTARTS how often
# they are started again where one dies, SAVE_SECONDS how long they have to save after a signal.
set -u
PYTHON=${PYTHON:-python}

# A mistake in the recipe is told before anything starts, and with its own code.
recipe=$("$PYTHON" launch.py --print "$@") || exit $?
folder=$(printf '%s\n' "$recipe" | "$PYTHON" -c \
    'import sys, yaml; run = yaml.safe_load(sys.stdin)["run"]; print(run["root"] + "/" + run["name"])')
rm -f "$folder/exit.json"

# exec is not possible, because of the code; so the signal of a scheduler that knows only this shell
# is passed on.
"$PYTHON" -m torch.distributed.run \
    --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${MASTER_PORT:-29500}" \
    --nproc-per-node "${RANKS_PER_NODE:-gpu}" --max-restarts "${MAX_RESTARTS:-0}" \
    --shutdown-timeout "${SAVE_SECONDS:-150}" \
    launch.py "$@" &
torchrun=$!
trap 'kill -TERM $torchrun' TERM INT USR1
while :; do
    wait "$torchrun"
    code=$?
    kill -0 "$torchrun" 2>/dev/null || break # or else it was the signal that ended `wait`
done
if [ "$code" -ne 0 ] && [ -e "$folder/exit.json" ]; then
    code=$("$PYTHON" -c 'import json, sys; print(json.load(open(sys.argv[1]))["exit_code"])' \
        "$folder/exit.json")
fi
exit "$code"
