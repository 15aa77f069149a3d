#!/bin/sh
# Makes the manifests of Debian kernels that `splitbtf fetch` downloads, from apt's own metadata.
#
#   datasets/make-manifests.sh [RELEASE...]
#
# A RELEASE is what `uname -r` says on that kernel, such as 6.1.0-50-cloud-amd64; without any, those
# that are listed below. Writes debian-RELEASE.toml beside this script. The hashes are those of the
# signed package lists of the archive; nothing is downloaded but the lists.
#
# Needs: apt-get with Debian bookworm and its security updates among its sources. No root: lists of
# other architectures go to a folder of the script's own.
set -eu

releases="
6.1.0-47-amd64 6.1.0-47-cloud-amd64 6.1.0-47-rt-amd64
6.1.0-50-amd64 6.1.0-50-cloud-amd64 6.1.0-50-rt-amd64
6.1.0-56-amd64 6.1.0-56-cloud-amd64 6.1.0-56-rt-amd64
6.12.100+deb12-amd64 6.12.100+deb12-cloud-amd64 6.12.100+deb12-rt-amd64
6.12.111+deb12-amd64 6.12.111+deb12-cloud-amd64 6.12.111+deb12-rt-amd64
6.12.117+deb12-amd64 6.12.117+deb12-cloud-amd64 6.12.117+deb12-rt-amd64
6.1.0-50-arm64 6.1.0-50-cloud-arm64 6.12.117+deb12-cloud-arm64
6.1.0-50-s390x
"
[ $# -eq 0 ] || releases="$*"
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/make-manifests.XXXXXX")
trap 'rm -rf "$work"' EXIT

private_apt() { # ARCHITECTURE COMMAND ARGUMENT...
    state=$work/$1
    architecture=$1
    command=$2
    shift 2
    "$command" -q -o "APT::Architecture=$architecture" \
        -o "APT::Architectures=$architecture" -o "APT::Sandbox::User=$(id -un)" \
        -o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache" "$@"
}

lists_of() { # ARCHITECTURE
    [ ! -e "$work/$1" ] || return 0
    mkdir -p "$work/$1/lists/partial" "$work/$1/cache/archives/partial"
    private_apt "$1" apt-get update >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}

package() { # ARCHITECTURE PACKAGE WHEN; nothing if the archive has no such package
    private_apt "$1" apt-cache show --no-all-versions "$2" 2>/dev/null | awk -v when="$3" '
        /^Package: / { name = $2 }
        /^Version: / { version = $2 }
        /^Size: / { size = $2 }
        /^SHA256: / { sha256 = $2 }
        END {
            if (!name) exit
            printf "\n[[package]]\nname = \"%s\"\nversion = \"%s\"\n", name, version
            printf "bytes = %s\nsha256 = \"%s\"\n", size, sha256
            if (when) printf "when = \"%s\"\n", when
        }'
}

for release in $releases; do
    architecture=${release##*-}
    lists_of "$architecture"
    target=$here/debian-$release.toml
    {
        echo "# Debian's kernel $release. Made by make-manifests.sh of the archive's package lists."
        echo "format = 1"
        echo "name = \"debian-$release\""
        echo "release = \"$release\""
        echo "architecture = \"$architecture\""
        echo 'licence = "GPL-2.0-only"'
        # Debian's s390x kernels carry no BTF: all of it is made of the -dbg package's DWARF.
        if [ "$architecture" = s390x ]; then
            package "$architecture" "linux-image-$release-dbg" ""
        else
            package "$architecture" "linux-image-$release" ""
            package "$architecture" "linux-image-$release-dbg" debug
        fi
    } >"$work/manifest"
    if ! grep -q '^sha256' "$work/manifest"; then
        echo "make-manifests.sh: apt does not offer the kernel $release" >&2
        exit 1
    fi
    cp "$work/manifest" "$target"
    echo "$target"
done
