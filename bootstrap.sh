#!/bin/sh
# Make this checkout ready to use: missing Debian packages, then a virtual environment in .venv.
#
#   ./bootstrap.sh local    what `dist-test local` needs
#   ./bootstrap.sh deploy   what the computer needs from which clusters are set up
#   ./bootstrap.sh dev      all that, and what the tests need
#   ./bootstrap.sh bench    what `make bench` compares with, in .venv-bench
#
# A second run finds everything in place and does nothing.
set -eu
cd "$(dirname "$0")"

kind=${1:-local}
venv=.venv
[ "$kind" != bench ] || venv=.venv-bench
python=${PYTHON:-python3}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# Each line: the Debian package, and a command that succeeds when it is there.
needed_packages() {
    echo "python3-venv $python -c 'import ensurepip, venv'"
    case $kind in local | dev)
        echo "mariadb-server-core command -v mariadbd"
        echo "mariadb-client-core command -v my_print_defaults"
        echo "beanstalkd command -v beanstalkd"
        ;;
    esac
    case $kind in deploy | dev)
        echo "openssh-client command -v ssh"
        ;;
    esac
    case $kind in dev)
        echo "podman command -v podman"
        echo "runc command -v runc"
        echo "busybox-static test -x /bin/busybox"
        echo "systemd-container command -v systemd-nspawn"
        echo "nftables command -v nft"
        echo "mmdebstrap command -v mmdebstrap"
        echo "iproute2 command -v ip"
        echo "packer command -v packer"
        echo "zstd command -v zstd"
        echo "chromium command -v chromium"
        echo "fonts-dejavu-core test -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
        ;;
    esac
    case $kind in bench)
        echo "redis-server command -v redis-server"
        ;;
    esac
}

missing_packages() {
    needed_packages | while read -r package check; do
        sh -c "$check" >/dev/null 2>&1 || echo "$package"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

install_packages() {
    if ! command -v apt-get >/dev/null; then
        echo "bootstrap: install these yourself, this is not a Debian system:" "$@" >&2
        exit 1
    fi
    echo "bootstrap: installing Debian packages:" "$@"
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$@" >/dev/null
}

install_python_packages() {
    echo "bootstrap: installing Python packages into $venv"
    # An environment whose interpreter was upgraded away, or that was moved, is of no use.
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
    # The variable also reaches the environment in which pip builds this package.
    PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
        "$venv/bin/python" -m pip install --quiet --editable ".[$kind]"
}

fingerprint() {
    cat pyproject.toml constraints.txt "$0" | sha256sum
}

case $kind in
local | deploy | dev | bench) ;;
*)
    echo "usage: ./bootstrap.sh [local|deploy|dev|bench]" >&2
    exit 2
    ;;
esac

missing=$(missing_packages)
# shellcheck disable=SC2086  # one word a package
[ -z "$missing" ] || install_packages $missing

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "bootstrap: $python is older than 3.11; name a newer one with PYTHON=..." >&2
    exit 1
}

# What was installed for development serves to run the cluster as well.
for stamp in "$venv/.bootstrap-$kind" "$venv/.bootstrap-dev"; do
    if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint)" ]; then
        exit 0
    fi
done
install_python_packages
fingerprint >"$venv/.bootstrap-$kind"
