#!/usr/bin/env bash
# What deploy/ holds, each part as far as one machine can run it:
#   deploy_check.sh BUILD-FOLDER VENV/bin PART..
#   scripts     deploy/slurm, by shellcheck
#   manifests   deploy/kubernetes (check_manifests.py)
#   rolling     deploy/haproxy before three servers (rolling_restart.py)
#   slurm       deploy/slurm on a Slurm of this machine (slurm_check.py); as root
#   container   deploy/container (container_test.sh); as root
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1 venv=$2
shift 2
for part in "$@"; do
	echo "deploy-check: $part"
	case $part in
	scripts) shellcheck -s bash deploy/slurm/*.sbatch deploy/slurm/*.sh ;;
	manifests) "$venv/python" scripts/measure/check_manifests.py "$build/trimtab" tests/golden ;;
	rolling) scripts/measure/rolling_restart.py "$build/trimtab" tests/golden ;;
	slurm) scripts/measure/slurm_check.py "$build/trimtab" tests/golden "$build/trimtab-mpi" ;;
	container) scripts/setup/container_test.sh "$venv/hadolint" ;;
	*)
		echo "deploy-check: there is no part $part" >&2
		exit 2
		;;
	esac
done
