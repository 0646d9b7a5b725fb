#!/bin/sh
# What a program that is linked to a library says of the device "cuda" must be what the trimtab of the same build says
# of itself: a build with CUDA has it in every kind of library, whoever links it. Prints what was said.
#   check_device.sh DEVICE TRIMTAB MODEL     DEVICE: examples/device.c, linked to the library
set -eu
said=$("$1" "$3" cuda | grep '^cuda: ') # where there is no GPU its status is 1
has=yes should=yes
case $said in *"built without CUDA"*) has=no ;; esac
if "$2" version | grep -q '^CUDA: *none'; then should=no; fi
if [ $has != $should ]; then
	echo "check_device: CUDA in the program: $should; in the library: $has: $said" >&2
	exit 1
fi
echo "$said"
