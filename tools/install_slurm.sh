#!/usr/bin/env bash
# Install SLURM and munge for `make cluster-test`, on Debian and Ubuntu. Their services are left off: the tests start
# daemons of their own. Where SLURM cannot be installed, the tests of it are skipped.
set -u
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "SLURM is not installed: that needs root and apt-get"
    exit 0
fi
apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge \
    || { echo "SLURM could not be installed"; exit 0; }
if [ -d /run/systemd/system ]; then
    systemctl disable --now munge slurmctld slurmd
fi
