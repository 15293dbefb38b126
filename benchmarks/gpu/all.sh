#!/bin/sh
# Measure everything on the GPU of this machine, with one command that can be cut off at any moment:
#
#     sh benchmarks/gpu/all.sh OUT                       # 25 minutes at most; again: goes on
#     sh benchmarks/gpu/all.sh OUT --minutes 9           # where a command may take ten
#     sh benchmarks/gpu/all.sh OUT --cpu                 # tries all scripts out, without a GPU
#     sh benchmarks/gpu/all.sh OUT --packages FOLDER     # on a machine without a network
#     sh benchmarks/gpu/all.sh OUT --data FOLDER         # one's own images, CIFAR-10
#
# FOLDER of --packages is what `benchmarks/gpu/packages/pack.py` wrote on a machine with a network.
# Its archives are compared with their SHA-256 and unpacked below $TMPDIR, where the next command
# finds them. PYTHON names the interpreter: python3 if not set. The other options, and what OUT gets:
# `python -m benchmarks.gpu.run_all --help`.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
python=${PYTHON:-python3}
packages=''
count=$#
while [ "$count" -gt 0 ]; do    # takes --packages FOLDER out of the arguments
    argument=$1
    shift
    count=$((count - 1))
    case $argument in
    --packages)
        [ "$count" -gt 0 ] || { echo "error: --packages needs a folder" >&2; exit 2; }
        packages=$1
        shift
        count=$((count - 1))
        ;;
    *) set -- "$@" "$argument" ;;
    esac
done

path=$root
if [ -n "$packages" ]; then
    site=${TMPDIR:-/tmp}/millstream-gpu-$(id -u)
    "$python" "$root/benchmarks/gpu/packages/unpack.py" "$packages" "$site"
    path=$root:$site
fi
PYTHONPATH=$path${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "$python" -m benchmarks.gpu.run_all "$@"
