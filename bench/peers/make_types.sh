#!/bin/sh
# Makes one file of each type of weights out of a model, by llama.cpp's quantiser, for bench/peers/batched.py. All
# matrices have the type, but where a K type does not fit a row (not a multiple of 256) llama.cpp takes another of about
# its size. What is quantised twice is less precise; speed does not depend on it.
#
#     make_types.sh LLAMA-QUANTIZE MODEL.gguf FOLDER
set -eu

quantize=${1:?usage: make_types.sh LLAMA-QUANTIZE MODEL.gguf FOLDER}
model=${2:?usage: make_types.sh LLAMA-QUANTIZE MODEL.gguf FOLDER}
folder=${3:?usage: make_types.sh LLAMA-QUANTIZE MODEL.gguf FOLDER}
mkdir -p "$folder"
for type in F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K IQ4_NL; do
	out=$folder/$type.gguf
	[ -f "$out" ] && continue
	"$quantize" --allow-requantize --pure "$model" "$out.part" $type >"$folder/$type.log" 2>&1 || {
		tail -n 5 "$folder/$type.log" >&2
		echo "make_types: llama-quantize failed for $type" >&2
		exit 1
	}
	mv "$out.part" "$out"
done
