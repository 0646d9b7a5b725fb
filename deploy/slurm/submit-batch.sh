#!/bin/bash
# A batch on Slurm: an array of shards, and the merge when all of them have ended well. Called again after a failure it
# goes on where the last one ended, with another number of tasks too.
#   MODEL=.. INPUT=in.jsonl OUTPUT=out.jsonl submit-batch.sh [OPTION OF trimtab batch]..
# ARRAY holds options of sbatch for the array, and MERGE for the merge: ARRAY="--array=0-31 --partition=gpu".
set -euo pipefail
export MODEL="${MODEL:?a model}" INPUT="${INPUT:?the file of requests}" OUTPUT="${OUTPUT:?the file of answers}"
here=$(cd "$(dirname "$0")" && pwd)
read -ra array <<<"${ARRAY:-}"
read -ra merge <<<"${MERGE:-}"

shards=$(sbatch --parsable "${array[@]}" "$here/batch-array.sbatch" "$@")
shards=${shards%%;*}
merged=$(sbatch --parsable "${merge[@]}" --dependency="afterok:$shards" --kill-on-invalid-dep=yes \
	"$here/batch-merge.sbatch" "$@")
echo "array $shards, merge ${merged%%;*}"
